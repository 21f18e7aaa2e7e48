package main

import (
	"testing"
	"unicode/utf8"
)

// TestLegend checks that no entry runs into the next one, and none out of the panel.
func TestLegend(t *testing.T) {
	for _, names := range [][]string{nil, {"one"}, acceptSubjects, {"callback, then 250", "250, then callback", "nothing to do"}, {"RssAnon", "collected", "RssFile", "heap"}} {
		var lines []series
		for _, n := range names {
			lines = append(lines, series{name: n})
		}
		spots := legend(lines)
		for i, at := range spots {
			end := at.x + legendMark + int(6.2*float64(utf8.RuneCountInString(names[i])))
			if at.x < plotLeft || end > panelWidth || at.y > legendBottom || at.y < legendBottom-legendRow {
				t.Errorf("%s is at %+v, up to %d", names[i], at, end)
			}
			if i+1 < len(spots) && spots[i+1].y == at.y && spots[i+1].x < end+legendGap {
				t.Errorf("%s ends at %d, %s begins at %d", names[i], end, names[i+1], spots[i+1].x)
			}
		}
		if len(spots) > 0 && spots[len(spots)-1].y != legendBottom {
			t.Errorf("%q: the last row is at %+v", names, spots[len(spots)-1])
		}
	}
}
