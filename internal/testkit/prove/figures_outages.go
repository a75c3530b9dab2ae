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

// OutageWrites are notes sent during outages and again after them.
var OutageWrites = declare(Figure{
	Area: Outages, Name: "lost-or-doubled", Promises: "U1",
	Tried: "notes sent during outages and again after them under the same key", Found: "there twice, not at all, or without one entry for each answer",
	Least: 2, Nightly: 25, Plants: 1,
	By: []string{outageTest},
})
