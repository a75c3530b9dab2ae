package prove

const outageTest = "./cmd/e2e TestEachOutageFailsClosedAndPasses"

// OutageRefused are requests that need the part that is away.
var OutageRefused = declare(Figure{
	Area: Outages, Name: "fails-closed", Promises: "A6 U1 P1",
	Tried: "requests that need a part which is down, hangs, resets or is cut off", Found: "answered with anything but a clear 502 to 504, or later than 15 s",
	Least: 5, Nightly: 50, Plants: 2,
	By: []string{outageTest},
})

// OutageServed are requests that do not.
var OutageServed = declare(Figure{
	Area: Outages, Name: "served-meanwhile", Promises: "I6",
	Tried: "requests meanwhile that do not need it", Found: "not served",
	Least: 4, Nightly: 200, Plants: 1,
	By: []string{outageTest},
})

// OutageReady is what programs say of themselves.
var OutageReady = declare(Figure{
	Area: Outages, Name: "readiness", Promises: "O5 O9",
	Tried: "times that a program's readiness must turn, away and back", Found: "later than 5 s, or 10 s after the end",
	Least: 2, Nightly: 40, Plants: 1,
	By: []string{outageTest},
})

// OutageRecovered is how it ends.
var OutageRecovered = declare(Figure{
	Area: Outages, Name: "recovery", Promises: "O9",
	Tried: "outages that end", Found: "not over within 10 s, or only by a restart",
	Least: 2, Nightly: 25, Plants: 1,
	By: []string{outageTest},
})

// OutageUnderWay are organizations in the middle of their provisioning.
var OutageUnderWay = declare(Figure{
	Area: Outages, Name: "under-way", Promises: "L5 I1",
	Tried: "organizations under way when an outage began", Found: "not live within 60 s of its end, or with anything twice",
	Least: 3, Nightly: 40, Plants: 1,
	By: []string{outageTest},
})

// OutageCensus is taken after all of them.
var OutageCensus = declare(Figure{
	Area: Outages, Name: "census", Promises: "I1 L5",
	Tried: "schemas, roles, credentials, keys, prefixes and identities accounted for after outages", Found: "that belong to nobody or are missing",
	Least: 20, Nightly: 200, Plants: 1,
	By: []string{outageTest},
})

// OutageWrites are notes sent during outages and again after them.
var OutageWrites = declare(Figure{
	Area: Outages, Name: "lost-or-doubled", Promises: "U1",
	Tried: "notes sent during outages and again after them under the same key", Found: "there twice, not at all, or without one entry for each answer",
	Least: 2, Nightly: 25, Plants: 1,
	By: []string{outageTest},
})

const diskTest = "./cmd/e2e TestAFullDiskLosesNothing"

// DiskServed are requests while a disk is full.
var DiskServed = declare(Figure{
	Area: Outages, Name: "full-disk", Promises: "A6 U1 O9",
	Tried: "requests while the disk of the database or of the objects is full", Found: "neither served nor refused clearly within 15 s",
	Least: 20, Nightly: 100, Plants: 1,
	By: []string{diskTest},
})

// DiskRecovered is how it ends.
var DiskRecovered = declare(Figure{
	Area: Outages, Name: "full-disk-recovery", Promises: "O9",
	Tried: "full disks that were given room", Found: "not over within 10 s, or only by a restart of a program of ours",
	Least: 3, Nightly: 6, Plants: 1,
	By: []string{diskTest},
})

// DiskWrites are notes and entries of that time.
var DiskWrites = declare(Figure{
	Area: Outages, Name: "full-disk-writes", Promises: "U1 A1",
	Tried: "notes sent while a disk was full and again afterwards under the same key", Found: "there twice, not at all, or by another id than was answered",
	Least: 10, Nightly: 40, Plants: 1,
	By: []string{diskTest},
})
