package prove

const provisionerTests = "./cmd/provisioner "

// IsolationAttempts are the live probes of a proof of isolation.
var IsolationAttempts = declare(Figure{
	Area: Isolation, Name: "attempts", Promises: "I1 I2 I4",
	Tried: "attempts over route, session, SQL, context, key and storage beside their twins", Found: "that passed",
	Least: 300, Plants: 30,
	By: []string{provisionerTests + "TestSoundTenantsAreProven", provisionerTests + "TestABreachIsFoundAlsoWhereTheCatalogLooksRight",
		provisionerTests + "TestEveryAttemptIsSeenAllowedOnce"},
})

// IsolationDeclared are the facts of the catalog.
var IsolationDeclared = declare(Figure{
	Area: Isolation, Name: "declared", Promises: "I4 I5",
	Tried: "facts of the catalog compared with the migrations", Found: "that differ",
	Least: 900, Plants: 30,
	By: []string{provisionerTests + "TestSoundTenantsAreProven", provisionerTests + "TestDriftIsFoundQuarantinedAndMended",
		provisionerTests + "TestDriftBesideTheCatalogIsFoundAndMended", provisionerTests + "TestWhatTenantsShareCountsAgainstEach",
		provisionerTests + "TestATableThatTheCatalogHidesIsFound", provisionerTests + "TestAMigrationOfTheCellWhileAProofIsMadeQuarantinesNobody",
		provisionerTests + "TestARepairTakesNothingBackThatAMigrationBrought"},
})

// IsolationStack is the proof of a running stack as an operator asks for it.
var IsolationStack = declare(Figure{
	Area: Isolation, Name: "running-stack", Promises: "I4",
	Tried: "tenants proven by `caresphere isolation prove --all`, report verified offline", Found: "not proven",
	Least: 2, Plants: 1,
	By: []string{"./cmd/e2e TestTheRunningStackIsProvenByCommand"},
})
