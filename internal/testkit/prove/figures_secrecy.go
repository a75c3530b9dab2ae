package prove

// PlantedPHI searches files, rows and metrics of a running stack, byte by byte.
var PlantedPHI = declare(Figure{
	Area: Secrecy, Name: "planted-phi", Promises: "P5",
	Tried: "places searched for markers planted in PHI fields", Found: "places that show one",
	Least: 500, Plants: 10,
	By: []string{"./cmd/e2e TestPlantedPHIIsNowhereInClear"},
})
