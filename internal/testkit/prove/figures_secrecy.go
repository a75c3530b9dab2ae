package prove

// PlantedPHI is stated by cmd/e2e.
var PlantedPHI = declare(Figure{
	Area: Secrecy, Name: "planted-phi", Promises: "P5",
	Tried: "places searched for markers planted in PHI fields", Found: "places that show one",
	Least: 20, Plants: 4,
	By: []string{"./cmd/e2e TestPlantedPHIIsNowhereInClear"},
})
