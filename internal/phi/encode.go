package phi

import (
	"encoding/json"
	"io"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	jsonv1 "github.com/go-json-experiment/json/v1"
)

// revealing is how encoding/json encodes, except that protected values come out
// in plain text. The option applies to one call at a time: nothing global knows
// how to reveal.
var revealing = jsonv2.JoinOptions(
	jsonv1.DefaultOptionsV1(),
	jsonv2.WithMarshalers(jsonv2.JoinMarshalers(
		jsonv2.MarshalToFunc(func(e *jsontext.Encoder, t Text) error {
			return e.WriteToken(jsontext.String(t.plain()))
		}),
		jsonv2.MarshalToFunc(func(e *jsontext.Encoder, d Date) error {
			if d.IsZero() {
				return e.WriteToken(jsontext.Null)
			}
			return e.WriteToken(jsontext.String(d.plain()))
		}),
		// The library knows its own Number type and not the standard one.
		jsonv2.MarshalToFunc(func(e *jsontext.Encoder, n json.Number) error {
			if n == "" {
				n = "0"
			}
			return e.WriteValue(jsontext.Value(n))
		}),
	)),
)

// EncodeJSON encodes an API response: as encoding/json does, with protected
// values revealed and a zero Date as null. It is the only encoder that reveals,
// and its result goes to an authorized client and nowhere else. Text that is not
// valid UTF-8 comes out with U+FFFD itself where encoding/json writes its escape.
//
// A type with its own MarshalJSON is asked for its JSON as by encoding/json, and
// protected values inside it stay marked.
func EncodeJSON(v any) ([]byte, error) { return jsonv2.Marshal(v, revealing) }

// WriteJSON is EncodeJSON to a writer, with the newline that json.Encoder ends
// with. It has the form of huma.Format's Marshal.
func WriteJSON(w io.Writer, v any) error {
	b, err := EncodeJSON(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}
