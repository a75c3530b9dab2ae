package identity

// ListBy makes lists of so few identities a page until the returned function is called.
func ListBy(n int64) (undo func()) {
	before := listPage
	listPage = n
	return func() { listPage = before }
}
