package main

import "testing"

func TestTable(t *testing.T) {
	t.Parallel()
	tab := table{head: []string{"RUN", "TASK", "ERROR"}}
	tab.add(words("1"), cell{"hello", green}, words("a long tale of woe and misfortune"))
	tab.add(words("22"), words("日本"), words(""))
	for name, test := range map[string]struct {
		width  int
		colour bool
		want   string
	}{
		"a file":          {wrapped, false, "RUN  TASK   ERROR\n1    hello  a long tale of woe and misfortune\n22   日本\n"},
		"a terminal":      {30, false, "RUN  TASK   ERROR\n1    hello  a long tale of wo…\n22   日本\n"},
		"a tiny terminal": {5, false, "RUN  TASK   ERROR\n1    hello  a long ta…\n22   日本\n"},
		"colours": {30, true, "\x1b[2mRUN\x1b[0m  \x1b[2mTASK\x1b[0m   \x1b[2mERROR\x1b[0m\n" +
			"1    \x1b[32mhello\x1b[0m  a long tale of wo…\n22   日本\n"},
	} {
		if got := tab.draw(test.width, test.colour); got != test.want {
			t.Errorf("%s: got\n%swant\n%s", name, got, test.want)
		}
	}
}
