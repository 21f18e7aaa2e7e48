package spooltest

// Names returns the names of all sub-tests.
func Names() (names []string) {
	for _, g := range groups {
		for _, test := range g.tests {
			names = append(names, g.name+"/"+test.name)
		}
	}
	return names
}
