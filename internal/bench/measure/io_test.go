package measure

import "testing"

func TestParseIO(t *testing.T) {
	got := parseIO([]byte("rchar: 6976\nwchar: 10\nsyscr: 11\nsyscw: 12\nread_bytes: 13\nwrite_bytes: 4096\ncancelled_write_bytes: 14\n"))
	if want := (IO{Reads: 11, Writes: 12, Written: 4096}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := parseIO([]byte("syscr: many\nwrite_bytes\n")); got != (IO{}) {
		t.Errorf("nonsense is %+v", got)
	}
}

func TestParseStatus(t *testing.T) {
	got := parseStatus([]byte("Name:\tRssAnon: 5 kB\nVmRSS:\t    2580 kB\nRssAnon:\t     112 kB\nRssFile:\t    2468 kB\nRssShmem:\t       7 kB\n"))
	if want := (Memory{Anon: 112 << 10, File: 2468 << 10}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestParseTraffic(t *testing.T) {
	const old = "   37953     7257  2163970     7547   899176   192623 120906288   143846        0    84632   176002"
	const discards = old + "    34531       88 193445112    11598"
	for _, tt := range []struct {
		line string
		want Traffic
	}{
		{old + "\n", Traffic{Written: 120906288 * 512}},
		{discards + "\n", Traffic{Written: 120906288 * 512}},
		{discards + "   233675    13010\n", Traffic{Written: 120906288 * 512, Flushes: 233675}},
	} {
		if got, err := parseTraffic([]byte(tt.line)); err != nil || got != tt.want {
			t.Errorf("%q: %+v, %v; want %+v", tt.line, got, err, tt.want)
		}
	}
	for _, bad := range []string{"", "1 2 3", "1 2 3 4 5 6 x 8 9 10 11", discards + " -1 0"} {
		if got, err := parseTraffic([]byte(bad)); err == nil {
			t.Errorf("%q is taken for %+v", bad, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("syscr: 11\nsyscw: 12\nwrite_bytes: 4096\nRssAnon:\t 112 kB\n"))
	f.Add([]byte("1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17"))
	f.Fuzz(func(t *testing.T, data []byte) {
		parseIO(data)
		parseStatus(data)
		if traffic, err := parseTraffic(data); err == nil && traffic.Written%sector != 0 {
			t.Errorf("%q: %d bytes written are no sectors", data, traffic.Written)
		}
	})
}
