package prove

const exportTests = "./internal/audit/export "

// In this area what is tried is itself a fault that is planted. The twin is a
// verifier that finds nothing: the judgement of it must turn red.

// AuditFlippedBytes flips single bits of exports.
var AuditFlippedBytes = declare(Figure{
	Area: Audit, Name: "flipped-bytes", Promises: "U2 U3",
	Tried: "bytes of signed exports flipped, one at a time", Found: "not found within a line",
	Least: 1_800_000, Plants: 4,
	By: []string{exportTests + "TestEveryFlippedByteIsFoundAndItsLineNamed", exportTests + "TestAThousandEntriesUnderAttack"},
})

// AuditLines removes, reorders, inserts, doubles and cuts.
var AuditLines = declare(Figure{
	Area: Audit, Name: "line-operations", Promises: "U2 U3",
	Tried: "lines deleted, doubled, inserted, swapped or cut in exports of 1,000 entries", Found: "not found within a line",
	Least: 90, Nightly: 10_000, Plants: 2,
	By: []string{exportTests + "TestAThousandEntriesUnderAttack"},
})

// AuditForged rewrites logs as a superuser and with stolen keys.
var AuditForged = declare(Figure{
	Area: Audit, Name: "forged-logs", Promises: "U2 U3",
	Tried: "logs changed, cut, forked or signed again by a superuser with triggers off", Found: "not named offline or by the next seal",
	Least: 24, Plants: 4,
	By: []string{exportTests + "TestASuperusersTamperingShowsInTheExport", exportTests + "TestALogRewrittenAndSignedAgainIsFound",
		exportTests + "TestAForkSignedWithTheRightKeyIsFoundByWhatWasKept",
		"./internal/audit/sealer TestTheNextSealFindsABrokenTree", "./internal/audit/sealer TestTheCheckFindsChangedEntries",
		"./internal/audit/sealer TestARewrittenLogIsFoundByTheAnchor"},
})

// AuditUnmatched holds the database's own record against the trail.
var AuditUnmatched = declare(Figure{
	Area: Audit, Name: "unmatched-reach", Promises: "U1",
	Tried: "ways for a superuser to reach clinical tables past the application", Found: "without a line in the reconciliation",
	Least: 17, Plants: 1,
	By: []string{"./cmd/e2e TestARunningStackAgreesWithItsDatabasesRecord", "./internal/audit/reconcile TestSuperusersReachIsUnmatched", "./internal/audit/reconcile TestADumpIsUnmatched",
		"./internal/audit/reconcile TestWhatHasItsEntryIsMatchedAndWhatHasNoneIsNot"},
})
