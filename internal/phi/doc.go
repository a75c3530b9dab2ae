// Package phi owns protected health information inside the process: types that
// cannot be printed, the one encoder that reveals them to an authorized client,
// and the cipher that seals them for storage and makes blind indexes.
//
// It trusts the key service for the tenants' keys and its caller for the Place
// that a value belongs to. It never logs a value, never puts one into an error,
// and never opens a value that was sealed for another place.
package phi
