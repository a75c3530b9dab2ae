package prove

// FailedWrites makes each single write of a flow fail, in its statement and at the commit.
var FailedWrites = declare(Figure{
	Area: Faults, Name: "failed-writes", Promises: "L2 L5 U1",
	Tried: "writes of agreements and of provisioning made to fail, one at a time", Found: "that left half of something, or that a retry did not complete",
	Least: 40, Nightly: 340, Plants: 2,
	By: []string{"./controlplane/baa TestEachFailedWriteLeavesNothing", "./controlplane/provisioning TestEachFailedWriteIsTakenUpAgain"},
})
