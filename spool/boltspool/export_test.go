package boltspool

// What the tests in package boltspool_test need.
var (
	Long       = long
	CheckIndex = checkIndex
)
