package phi_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/caresphere/caresphere/internal/phi"
	"github.com/caresphere/caresphere/tenants"
)

type base struct {
	ID        tenants.ID `json:"id"`
	CreatedAt time.Time  `json:"created_at"`
}

type deep struct {
	base
	*Extra
	Note string `json:"note,omitempty"`
}

type Extra struct {
	Level int `json:"level"`
}

type byPointer struct{ N int }

func (p *byPointer) MarshalJSON() ([]byte, error) { return []byte(`{"custom":true}`), nil }

type byText struct{ s string }

func (b byText) MarshalText() ([]byte, error) { return []byte("<" + b.s + ">"), nil }

type zeroable struct{ N int }

func (z zeroable) IsZero() bool { return z.N == 7 }

type named string

// everything uses what Go API structs use.
type everything struct {
	Plain     string
	Renamed   string `json:"renamed"`
	Hidden    string `json:"-"`
	Empty     string `json:"empty,omitempty"`
	unexp     string
	Int       int                `json:"int,string"`
	Int64     int64              `json:"int64"`
	Uint8     uint8              `json:"uint8"`
	Float     float64            `json:"float"`
	Small     float64            `json:"small"`
	Float32   float32            `json:"float32"`
	Bool      bool               `json:"bool,omitempty"`
	Time      time.Time          `json:"time"`
	TimeZero  time.Time          `json:"time_zero,omitzero"`
	TimeEmpty time.Time          `json:"time_empty,omitempty"`
	Duration  time.Duration      `json:"duration"`
	Bytes     []byte             `json:"bytes"`
	NilBytes  []byte             `json:"nil_bytes"`
	Array     [3]byte            `json:"array"`
	Slice     []string           `json:"slice"`
	NilSlice  []string           `json:"nil_slice"`
	EmptyS    []string           `json:"empty_slice"`
	OmitSlice []string           `json:"omit_slice,omitempty"`
	Map       map[string]int     `json:"map"`
	NilMap    map[string]int     `json:"nil_map"`
	IDs       map[tenants.ID]int `json:"ids"`
	Ints      map[int]string     `json:"ints"`
	Any       any                `json:"any"`
	Nil       any                `json:"nil"`
	Raw       json.RawMessage    `json:"raw"`
	NilRaw    json.RawMessage    `json:"nil_raw"`
	Number    json.Number        `json:"number"`
	Pointer   *int               `json:"pointer"`
	NilPtr    *int               `json:"nil_ptr"`
	OmitPtr   *int               `json:"omit_ptr,omitempty"`
	Struct    deep               `json:"struct"`
	Anon      struct{ A, B int } `json:"anon"`
	Custom    byPointer          `json:"custom"`
	CustomPtr *byPointer         `json:"custom_ptr"`
	Customs   []byPointer        `json:"customs"`
	Text      byText             `json:"text"`
	TextKeys  map[byText]int     `json:"text_keys"`
	Zeroable  zeroable           `json:"zeroable,omitzero"`
	Zeroable2 zeroable           `json:"zeroable2,omitzero"`
	Named     named              `json:"named"`
	Nameds    map[named][]named  `json:"nameds"`
	deep
}

func TestEncodesAsEncodingJSON(t *testing.T) {
	n, id := 5, tenants.NewID()
	at := time.Date(2026, 11, 21, 22, 0, 0, 123456789, time.FixedZone("", 3600))
	full := everything{
		Plain: "a<b>&\u2028\u2029\"\\/\t\x01é\U0001F600", Renamed: "r", Hidden: "h", unexp: "u", Int: -3, Int64: math.MaxInt64,
		Uint8: 255, Float: 1e21, Small: 1e-7, Float32: 0.1, Bool: true, Time: at, Duration: time.Second, Bytes: []byte{0, 1, 254},
		Array: [3]byte{1, 2, 3}, Slice: []string{"b", "a"}, EmptyS: []string{}, Map: map[string]int{"z": 1, "a": 2, "M": 3, "<": 4},
		IDs: map[tenants.ID]int{id: 1}, Ints: map[int]string{10: "x", 9: "y", -1: "z"}, Any: map[string]any{"k": []any{1, nil, "s", 1.5, true}},
		Raw: json.RawMessage(`{"b": 1, "a" : [1, 2] }`), Number: "12.50", Pointer: &n, Struct: deep{base: base{id, at}, Extra: &Extra{2}, Note: "n"},
		CustomPtr: &byPointer{}, Customs: []byPointer{{1}}, Text: byText{"t"}, TextKeys: map[byText]int{{"b"}: 1, {"a"}: 2},
		Zeroable: zeroable{7}, Zeroable2: zeroable{1}, Named: "x", Nameds: map[named][]named{"k": {"v"}},
		deep: deep{base: base{id, at}, Extra: &Extra{1}},
	}
	for name, v := range map[string]any{
		"zero": everything{}, "full": full, "pointer": &full, "slice": []everything{full}, "nil": nil, "nil pointer": (*everything)(nil),
		"string": "x<", "number": 1.0, "bad number": json.Number("1x"), "minus zero": math.Copysign(0, -1),
		"map of any": map[string]any{"b": full, "a": nil}, "by pointer": &byPointer{}, "by value": byPointer{}, "in any": []any{byPointer{}, &byPointer{}},
		"time": at, "error type": struct{ Err error }{nil}, "problem": &huma.ErrorModel{Status: 422, Title: "t", Errors: []*huma.ErrorDetail{{Message: "m", Location: "body.x"}}},
	} {
		want, wantErr := json.Marshal(v)
		got, err := phi.EncodeJSON(v)
		if (err == nil) != (wantErr == nil) || !bytes.Equal(got, want) {
			t.Errorf("%s:\n got %s %v\nwant %s %v", name, got, err, want, wantErr)
		}
		if wantErr != nil {
			continue
		}
		var wantLine, gotLine bytes.Buffer
		if err := json.NewEncoder(&wantLine).Encode(v); err != nil {
			t.Fatal(err)
		}
		if err := phi.WriteJSON(&gotLine, v); err != nil || !bytes.Equal(gotLine.Bytes(), wantLine.Bytes()) {
			t.Errorf("%s as a line:\n got %s %v\nwant %s", name, gotLine.Bytes(), err, wantLine.Bytes())
		}
	}
	for name, v := range map[string]any{"channel": make(chan int), "function": func() {}, "not a number": math.NaN(), "complex": 1i} {
		if _, err := phi.EncodeJSON(v); err == nil {
			t.Errorf("%s was encoded", name)
		}
	}
}

func FuzzEncodesStringsAsEncodingJSON(f *testing.F) {
	f.Add("a<b>\u2028")
	f.Add("\xff\xfe")
	f.Fuzz(func(t *testing.T, s string) {
		for name, pair := range map[string][2]any{
			"value": {s, s}, "key": {map[string]any{s: s}, map[string]any{s: s}}, "revealed": {phi.NewText(s), s},
		} {
			got, err := phi.EncodeJSON(pair[0])
			want, wantErr := json.Marshal(pair[1])
			if err != nil || wantErr != nil {
				t.Fatalf("%s: %v, %v", name, err, wantErr)
			}
			if utf8.ValidString(s) {
				if !bytes.Equal(got, want) {
					t.Fatalf("%s: got %s, want %s", name, got, want)
				}
				continue
			}
			var gotValue, wantValue any
			if err := errors.Join(json.Unmarshal(got, &gotValue), json.Unmarshal(want, &wantValue)); err != nil || !reflect.DeepEqual(gotValue, wantValue) {
				t.Fatalf("%s: got %s, want %s, %v", name, got, want, err)
			}
		}
	})
}

type person struct {
	Name  phi.Text            `json:"name" minLength:"1" maxLength:"5" pattern:"\\S" doc:"Name" example:"Ada"`
	Born  phi.Date            `json:"born" doc:"Birth"`
	Alias *phi.Text           `json:"alias,omitempty" maxLength:"9"`
	Gone  *phi.Date           `json:"gone"`
	Tags  []phi.Text          `json:"tags"`
	More  map[string]phi.Text `json:"more,omitempty"`
	Any   any                 `json:"any,omitempty"`
	Omit  phi.Text            `json:"omit,omitzero"`
}

func TestRevealsToTheClientAlone(t *testing.T) {
	born, err := phi.NewDate(1931, 7, 23)
	if err != nil {
		t.Fatal(err)
	}
	alias := phi.NewText("A<b>")
	p := person{Name: phi.NewText("Ada \"L\""), Born: born, Alias: &alias, Tags: []phi.Text{alias, {}}, More: map[string]phi.Text{"b": alias, "a": {}}, Any: alias}
	const want = `{"name":"Ada \"L\"","born":"1931-07-23","alias":"A\u003cb\u003e","gone":null,"tags":["A\u003cb\u003e",""],"more":{"a":"","b":"A\u003cb\u003e"},"any":"A\u003cb\u003e"}`
	for name, v := range map[string]any{"value": p, "pointer": &p} {
		got, err := phi.EncodeJSON(v)
		if err != nil || string(got) != want {
			t.Errorf("%s:\n got %s %v\nwant %s", name, got, err, want)
		}
	}
	if got, err := phi.EncodeJSON(person{}); err != nil || string(got) != `{"name":"","born":null,"gone":null,"tags":null}` {
		t.Errorf("zero: %s %v", got, err)
	}
	marked, err := json.Marshal(p)
	if err != nil || strings.Contains(string(marked), "Ada") || !strings.Contains(string(marked), `"name":"[PHI]"`) {
		t.Errorf("encoding/json gives %s %v", marked, err)
	}
}

func TestRoundTripThroughTheDecoder(t *testing.T) {
	var p person
	if err := json.Unmarshal([]byte(`{"name":"Zo\u00eb","born":"2000-02-29","alias":null,"tags":["x"]}`), &p); err != nil {
		t.Fatal(err)
	}
	got, err := phi.EncodeJSON(p)
	if err != nil || string(got) != `{"name":"Zoë","born":"2000-02-29","gone":null,"tags":["x"]}` {
		t.Fatalf("%s %v", got, err)
	}
	for _, bad := range []string{
		`{"name":5}`, `{"name":{"a":"` + marker + `"}}`, `{"name":["` + marker + `"]}`, `{"born":"` + marker + `"}`, `{"born":"2001-02-29"}`, `{"born":"0000-01-01"}`,
		`{"born":"2001-2-3"}`, `{"born":20010203}`, `{"born":"2001-02-03T00:00:00Z"}`, `{"name":true}`,
	} {
		err := json.Unmarshal([]byte(bad), new(person))
		if err == nil {
			t.Errorf("%s was read", bad)
		} else if strings.Contains(err.Error(), marker) || strings.Contains(err.Error(), "2001") {
			t.Errorf("the error repeats the value: %v", err)
		}
	}
}

func FuzzUnmarshal(f *testing.F) {
	for _, seed := range []string{`"a"`, `null`, `"2000-02-29"`, `""`, `"\ud800"`, `{`, `"`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var text phi.Text
		var plain string
		gotErr, wantErr := json.Unmarshal(raw, &text), json.Unmarshal(raw, &plain)
		if (gotErr == nil) != (wantErr == nil) || gotErr == nil && !text.Equal(phi.NewText(plain)) {
			t.Fatalf("text: %v, string: %v", gotErr, wantErr)
		}
		var d phi.Date
		if json.Unmarshal(raw, &d) == nil && !d.IsZero() {
			again, err := phi.EncodeJSON(d)
			if err != nil || json.Unmarshal(again, new(phi.Date)) != nil {
				t.Fatalf("a date that was read does not come back: %v", err)
			}
		}
		// Called directly, as a decoder of another kind might.
		_ = text.UnmarshalJSON(raw)
		_ = d.UnmarshalJSON(raw)
	})
}

func TestSchemaIsAStringWithLimits(t *testing.T) {
	registry := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	schema := huma.SchemaFromType(registry, reflect.TypeFor[person]())
	name, born, alias := schema.Properties["name"], schema.Properties["born"], schema.Properties["alias"]
	if name.Type != "string" || name.MaxLength == nil || *name.MaxLength != 5 || *name.MinLength != 1 || name.Pattern != `\S` || name.Description != "Name" {
		t.Errorf("name is %+v", name)
	}
	if born.Type != "string" || born.Format != "date" || alias.Type != "string" || *alias.MaxLength != 9 {
		t.Errorf("born is %+v, alias %+v", born, alias)
	}
	if name.Extensions[phi.SchemaMark] != true || born.Extensions[phi.SchemaMark] != true || alias.Extensions[phi.SchemaMark] != true {
		t.Error("a protected field is not marked as one")
	}
	if len(registry.Map()) != 0 {
		t.Errorf("protected types have schemas of their own: %v", registry.Map())
	}
	for _, c := range []struct {
		body string
		ok   bool
	}{
		{`{"name":"Ada","born":"1931-07-23","gone":"1931-07-23","tags":["a"]}`, true},
		{`{"name":"Ada Lo","born":"1931-07-23","gone":"1931-07-23","tags":[]}`, false},
		{`{"name":"   ","born":"1931-07-23","gone":"1931-07-23","tags":[]}`, false},
		{`{"name":"Ada","born":"1931-07-32","gone":"1931-07-23","tags":[]}`, false},
		{`{"name":7,"born":"1931-07-23","gone":"1931-07-23","tags":[]}`, false},
	} {
		var body any
		if err := json.Unmarshal([]byte(c.body), &body); err != nil {
			t.Fatal(err)
		}
		result := &huma.ValidateResult{}
		huma.Validate(registry, schema, huma.NewPathBuffer(nil, 0), huma.ModeWriteToServer, body, result)
		if (len(result.Errors) == 0) != c.ok {
			t.Errorf("%s: %v", c.body, result.Errors)
		}
	}
}
