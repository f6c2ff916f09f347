package audit

import "slices"

// SQLChecks are the names of the checks that are SQL alone.
func SQLChecks() (names []string) {
	for _, c := range slices.Concat(checks, callChecks, restChecks) {
		names = append(names, c.name)
	}
	return names
}
