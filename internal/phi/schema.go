package phi

import "github.com/danielgtaylor/huma/v2"

// SchemaMark is the extension with which an API's description says that a field holds
// protected health information (45 CFR 160.103), for whoever connects to it.
const SchemaMark = "x-phi"

// Schema implements huma.SchemaProvider: clients see a string. Limits come from
// the field's tags (minLength, maxLength, pattern, doc).
func (Text) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Extensions: map[string]any{SchemaMark: true}}
}

// Schema implements huma.SchemaProvider: clients see a string of format date.
func (Date) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Format: "date", Extensions: map[string]any{SchemaMark: true}}
}

var (
	_ huma.SchemaProvider = Text{}
	_ huma.SchemaProvider = Date{}
)
