package audit

// SQLChecks are the names of the checks that are SQL alone.
func SQLChecks() (names []string) {
	for _, c := range append(append([]check{}, checks...), restChecks...) {
		names = append(names, c.name)
	}
	return names
}
