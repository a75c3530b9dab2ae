package prove

// Census accounts for everything that a cell holds.
var Census = declare(Figure{
	Area: Faults, Name: "census", Promises: "I1 L5",
	Tried: "schemas, roles, credentials, keys, prefixes, identities and routes accounted for after faults", Found: "that belong to nobody, are missing or lead astray",
	Least: 20, Nightly: 1000, Plants: 22,
	By: []string{provisionerTests + "TestACensusNamesWhatIsNotAccountedFor", provisionerTests + "TestACensusNamesRoutesThatAreWrong", provisionerTests + "TestKilledInAWriteItResumes",
		provisionerTests + "TestKilledAtAnyMomentItResumes", "./cmd/e2e TestACensusAccountsForIdentities"},
})

// KilledProvisioning kills provisioners in the middle of their work.
var KilledProvisioning = declare(Figure{
	Area: Faults, Name: "kill-provisioning", Promises: "L5",
	Tried: "SIGKILLs before, in and after steps of provisioning", Found: "organizations not live within 60 s, or with anything twice",
	Least: 28, Nightly: 700, Plants: 1,
	By: []string{provisionerTests + "TestKilledAnywhereItResumes", provisionerTests + "TestKilledInAWriteItResumes", provisionerTests + "TestKilledAtAnyMomentItResumes"},
})

// KilledGate kills provisioners that close and open gates.
var KilledGate = declare(Figure{
	Area: Faults, Name: "kill-gate", Promises: "L3 L7",
	Tried: "SIGKILLs while gates close and open", Found: "gates that did not follow the decision at role and key",
	Least: 4, Nightly: 160, Plants: 2,
	By: []string{provisionerTests + "TestKilledWhileAGateMovesItFollows"},
})

// KilledAgreement kills control planes in acts on agreements.
var KilledAgreement = declare(Figure{
	Area: Faults, Name: "kill-agreement", Promises: "L2 L3",
	Tried: "SIGKILLs in writes of drafting, signing, countersigning and ending agreements", Found: "acts that happened without their entry, or in part",
	Least: 3, Nightly: 20, Plants: 1,
	By: []string{"./cmd/e2e TestKilledInAnAgreementItIsWholeOrNot"},
})

// KilledSealing kills sealers.
var KilledSealing = declare(Figure{
	Area: Faults, Name: "kill-sealing", Promises: "U2 U3",
	Tried: "SIGKILLs while entries are sealed and anchored", Found: "trails that do not check, or stay unsealed",
	Least: 4, Nightly: 60, Plants: 1,
	By: []string{provisionerTests + "TestKilledWhileSealingTheTrailIsWhole"},
})

// Fenced pauses a provisioner past its lease while another takes over.
var Fenced = declare(Figure{
	Area: Faults, Name: "fenced", Promises: "L5 P3",
	Tried: "provisioners stopped past their lease, at a step or in a rotation, and continued", Found: "effects that came twice or too late",
	Least: 2, Nightly: 21, Plants: 1,
	By: []string{provisionerTests + "TestAPausedProcessIsFencedAtEachStep", provisionerTests + "TestAPausedRotationIsFenced"},
})

// KilledRotation kills provisioners that rotate a tenant's key.
var KilledRotation = declare(Figure{
	Area: Faults, Name: "kill-rotation", Promises: "P3",
	Tried: "SIGKILLs while keys rotate", Found: "keys not one version further, wraps of an older one, or records that are not read",
	Least: 5, Nightly: 100, Plants: 2,
	By: []string{provisionerTests + "TestKilledWhileAKeyRotatesItTurnsOnce"},
})
