package host

import (
	"fmt"
	"slices"
	"strings"
)

// otherVariables are those of amber's that are no settings of a host: its
// clients' and its tests'.
var otherVariables = []string{"AMBER_URL", "AMBER_KEY"}

// misspelt names the variables and keys of amber's own that mean nothing.
func (s Sources) misspelt(project *project) []string {
	variables, paths, places := slices.Clone(otherVariables), []string{}, map[string]string{}
	for _, mode := range []Mode{Dev, Serve} { // one file or shell may serve both
		for _, setting := range tableOf(mode) {
			variables, paths = append(variables, setting.Env...), append(paths, setting.TOML)
			places[underAmber(setting.Name)] = setting.TOML // which may be a key of the CLI's
		}
	}
	var found []string
	for _, pair := range s.Environ {
		name, _, _ := strings.Cut(pair, "=")
		if strings.HasPrefix(name, "AMBER_") && !strings.HasPrefix(name, "AMBER_TEST_") && !slices.Contains(variables, name) {
			found = append(found, fmt.Sprintf("%s means nothing to amber%s", name, nearest(name, variables)))
		}
	}
	for _, v := range project.Below("amber") {
		if slices.Contains(paths, v.Path) {
			continue
		}
		meant := nearest(v.Path, paths)
		if place := places[v.Path]; place != "" {
			meant = "; did you mean " + place + "?"
		}
		found = append(found, fmt.Sprintf("%s: %s means nothing to amber%s", v.Where(), v.Path, meant))
	}
	return found
}

// underAmber is where config.toml has a setting that is amber's own.
func underAmber(name string) string { return "amber." + strings.ReplaceAll(name, "-", "_") }

// nearest asks whether the name was meant that is spelt most alike.
func nearest(name string, names []string) string {
	best, least := "", max(2, len(name)/4)
	for _, other := range names {
		if d := distance(name, other); d <= least {
			best, least = other, d-1
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", best)
}

// distance is how many letters have to be added, left out or changed to make b
// of a (Levenshtein's).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			changed := before
			if a[i] != b[j] {
				changed++
			}
			before = row[j+1]
			row[j+1] = min(changed, before+1, row[j]+1)
		}
	}
	return row[len(b)]
}
