package prove

// FailedWrites makes each single write of a flow fail, in its statement and at the commit.
var FailedWrites = declare(Figure{
	Area: Faults, Name: "failed-writes", Promises: "L2 L5 P3 U1",
	Tried: "writes of agreements, provisioning and rotations made to fail, one at a time", Found: "that left half of something, or that a retry did not complete",
	Least: 50, Nightly: 370, Plants: 4,
	By: []string{"./controlplane/baa TestEachFailedWriteLeavesNothing", "./controlplane/provisioning TestEachFailedWriteIsTakenUpAgain",
		"./controlplane/provisioning TestEachFailedWriteOfARotationIsTakenUpAgain"},
})
