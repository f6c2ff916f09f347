// Package examples embeds the example tasks, which `amber dev` publishes when
// it is given no directory of its own.
package examples

import "embed"

// Tasks holds tasks/NAME.js for each example; README.md says what each shows.
//
//go:embed tasks/*.js
var Tasks embed.FS
