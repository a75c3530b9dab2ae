package prove

// PlantedPHI searches files, rows and metrics of a running stack, byte by byte.
var PlantedPHI = declare(Figure{
	Area: Secrecy, Name: "planted-phi", Promises: "P5",
	Tried: "places, a database server's own files aside, searched for markers planted in PHI fields", Found: "places that show one",
	Least: 200, Plants: 11,
	By: []string{"./cmd/e2e TestPlantedPHIIsNowhereInClear"},
})
