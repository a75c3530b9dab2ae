package phi

import "github.com/danielgtaylor/huma/v2"

// Schema implements huma.SchemaProvider: clients see a string. Limits come from
// the field's tags (minLength, maxLength, pattern, doc).
func (Text) Schema(huma.Registry) *huma.Schema { return &huma.Schema{Type: huma.TypeString} }

// Schema implements huma.SchemaProvider: clients see a string of format date.
func (Date) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Format: "date"}
}

var (
	_ huma.SchemaProvider = Text{}
	_ huma.SchemaProvider = Date{}
)
