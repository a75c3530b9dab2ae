package fleet

// ExportBy makes exports read so few organizations at a time until the returned
// function is called.
func ExportBy(n int) (undo func()) {
	before := exportPage
	exportPage = n
	return func() { exportPage = before }
}
