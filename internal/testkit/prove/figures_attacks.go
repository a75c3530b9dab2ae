package prove

// The attacks that are made from the APIs' descriptions, and hostile SQL.
var (
	attackTests  = []string{"./cmd/e2e TestNoRequestReachesAnotherTenantOrFacility"}
	hostileTests = []string{"./controlplane/provisioning TestHostileSQLReadsNothingOfAnotherTenant", "./controlplane/provisioning TestHostileSQLThatSucceedsIsNoticed"}

	ForeignIDs = declare(Figure{
		Area: Attacks, Name: "http-foreign-ids", Promises: "I1 I3",
		Tried: "requests with something of another tenant or facility in one place", Found: "answers or rows that give something away",
		Least: 900, Plants: 3,
		By: attackTests,
	})
	DeniedAsAbsent = declare(Figure{
		Area: Attacks, Name: "denied-as-absent", Promises: "I1 I3",
		Tried: "refusals held beside that of a thing that does not exist", Found: "pairs that differ",
		Least: 150, Plants: 2,
		By: attackTests,
	})
	BadSessions = declare(Figure{
		Area: Attacks, Name: "http-sessions", Promises: "A2 A6 A8 I1",
		Tried: "requests with a session that must not count", Found: "requests that were let in",
		Least: 900, Plants: 3,
		By: attackTests,
	})
	Methods = declare(Figure{
		Area: Attacks, Name: "http-methods", Promises: "I1 A5",
		Tried: "requests by a method that no description names", Found: "requests that were not refused, or changed something",
		Least: 400, Plants: 10,
		By: attackTests,
	})
	HostileSQL = declare(Figure{
		Area: Attacks, Name: "hostile-sql", Promises: "I2",
		Tried: "statements as one tenant's login at another, both ways", Found: "statements that got through, or twins that did not",
		Least: 350, Plants: 7,
		By: hostileTests,
	})
	Hints = declare(Figure{
		Area: Attacks, Name: "hints", Promises: "I1 I2",
		Tried: "notifications heard and sent by another tenant's login", Found: "that name their tenant, or decided something",
		Least: 9, Plants: 1,
		By: []string{"./cmd/e2e TestHintsNameNobodyAndDecideNothing"},
	})
)
