package prove

// CrashedReads kills the database under readers.
var CrashedReads = declare(Figure{
	Area: Audit, Name: "crashed-reads", Promises: "U1",
	Tried: "answered reads whose database was killed under them", Found: "of them without an entry after recovery",
	Least: 300, Nightly: 1500, Plants: 2,
	By: []string{"./dataplane/access TestAReleasedReadSurvivesACrash"},
})

// ForgedEntries are lists of entries that slipped-in SQL would send.
var ForgedEntries = declare(Figure{
	Area: Attacks, Name: "forged-entries", Promises: "U1 U2",
	Tried: "lists of audit entries that no worker signed for this backend, role and moment", Found: "accepted",
	Least: 12, Plants: 1,
	By: []string{"./dataplane/access TestAForgedListOfEntriesIsRefused"},
})

// FailedGroups are groups of entries that the database does not take.
var FailedGroups = declare(Figure{
	Area: Audit, Name: "failed-groups", Promises: "U1",
	Tried: "reads while entries were refused or their connection cut", Found: "answered without their own entry, or refused without one",
	Least: 400, Nightly: 5000, Plants: 1,
	By: []string{"./dataplane/access TestReadsWhoseEntriesFailAreRefused"},
})
