package prove

// FailedWrites makes each single write of a flow fail, in its statement and at the commit.
var FailedWrites = declare(Figure{
	Area: Faults, Name: "failed-writes", Promises: "L2 L5 P3 U1",
	Tried: "writes of agreements, provisioning and rotations made to fail, one at a time", Found: "that left half of something, or that a retry did not complete",
	Least: 50, Nightly: 370, Plants: 4,
	By: []string{"./controlplane/baa TestEachFailedWriteLeavesNothing", "./controlplane/provisioning TestEachFailedWriteIsTakenUpAgain",
		"./controlplane/provisioning TestEachFailedWriteOfARotationIsTakenUpAgain"},
})

// BrokenConnections breaks connections to the databases at single messages.
var BrokenConnections = declare(Figure{
	Area: Faults, Name: "broken-connections", Promises: "L2 L5",
	Tried: "connections broken at messages of provisioning and agreements, before the server had one or before its answer was back", Found: "that left half of something, or that a retry did not complete",
	Least: 35, Nightly: 500, Plants: 2,
	By: []string{"./controlplane/baa TestEachBrokenConnectionLeavesAllOrNothing", "./controlplane/provisioning TestEachBrokenConnectionIsTakenUpAgain"},
})
