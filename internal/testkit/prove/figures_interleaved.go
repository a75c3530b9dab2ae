package prove

const interleavedTest = "./cmd/e2e TestManyTenantsShareWorkersAndNothingElse"

// InterleavedAnswers are requests of many tenants through shared connections,
// workers and pools.
var InterleavedAnswers = declare(Figure{
	Area: Attacks, Name: "interleaved-answers", Promises: "I1 I6",
	Tried: "interleaved requests of many tenants on shared connections and workers", Found: "answers that are not the own tenant's or not as expected",
	Least: 3000, Nightly: 100_000, Plants: 8,
	By: []string{interleavedTest},
})

// InterleavedTrails are the same requests in the tenants' audit trails.
var InterleavedTrails = declare(Figure{
	Area: Attacks, Name: "interleaved-trails", Promises: "I1 U1",
	Tried: "of those requests looked up in every tenant's audit trail", Found: "not exactly once in the own trail, or in another's",
	Least: 2000, Nightly: 80_000, Plants: 2,
	By: []string{interleavedTest},
})

// InterleavedWrites are the records that they left.
var InterleavedWrites = declare(Figure{
	Area: Attacks, Name: "interleaved-writes", Promises: "I1 C4",
	Tried: "notes written meanwhile, some sent again under the same key", Found: "lost, doubled or in another tenant",
	Least: 300, Nightly: 10_000, Plants: 2,
	By: []string{interleavedTest},
})
