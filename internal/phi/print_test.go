package phi_test

import (
	"bytes"
	"context"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"html/template"
	"log" //nolint:depguard // one of the ways of printing that are tried
	"log/slog"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	texttemplate "text/template"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/assert"

	"github.com/caresphere/caresphere/internal/phi"
)

const (
	marker     = "Xanthippe-Marker"
	markerDate = "1931-07-23"
)

// holder has values in every way a record may: exported, not, by pointer, in a
// slice, map, interface and embedded.
type holder[T any] struct {
	Public   T
	private  T
	Pointer  *T
	Slice    []T
	Map      map[string]T
	Any      any
	embedded embedded[T]
	Embedded embedded[T]
}

type embedded[T any] struct{ Value T }

func hold[T any](v T) holder[T] {
	return holder[T]{
		Public: v, private: v, Pointer: &v, Slice: []T{v}, Map: map[string]T{"k": v}, Any: v,
		embedded: embedded[T]{v}, Embedded: embedded[T]{v},
	}
}

// ways lists how a value can become text or bytes by mistake. Each returns all
// that came out; errors count as output.
func ways(v any) map[string]func() string {
	all := map[string]func() string{}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%#x", "%d", "%T", "%t", "%p", "%+q", "%10.3s", "%c", "%U", "%b", "%e", "%w"} {
		all["fmt "+verb] = func() string { return fmt.Sprintf(verb, v) }
	}
	all["fmt.Sprint"] = func() string { return fmt.Sprint(v) }
	all["fmt.Sprintln"] = func() string { return fmt.Sprintln("a", v, "b") }
	all["fmt.Errorf"] = func() string { return fmt.Errorf("saving %v: %w", v, errors.ErrUnsupported).Error() }
	all["errors.Join"] = func() string { return errors.Join(fmt.Errorf("%+v", v)).Error() }
	all["log"] = func() string {
		var b bytes.Buffer
		log.New(&b, "", 0).Print(v)
		return b.String()
	}
	all["slog json"] = func() string {
		var b bytes.Buffer
		slog.New(slog.NewJSONHandler(&b, nil)).LogAttrs(context.Background(), slog.LevelInfo, "m", slog.Any("v", v), slog.Group("g", slog.Any("v", v)))
		return b.String()
	}
	all["slog text"] = func() string {
		var b bytes.Buffer
		slog.New(slog.NewTextHandler(&b, nil)).Info("m", "v", v)
		return b.String()
	}
	all["encoding/json"] = func() string { b, err := json.Marshal(v); return fmt.Sprint(string(b), err) }
	all["encoding/json indent"] = func() string { b, err := json.MarshalIndent(v, "", " "); return fmt.Sprint(string(b), err) }
	all["encoding/json stream"] = func() string {
		var b bytes.Buffer
		err := json.NewEncoder(&b).Encode(map[string]any{"v": v})
		return fmt.Sprint(b.String(), err)
	}
	all["encoding/xml"] = func() string { b, err := xml.Marshal(v); return fmt.Sprint(string(b), err) }
	all["encoding/gob"] = func() string {
		var b bytes.Buffer
		err := gob.NewEncoder(&b).Encode(v)
		return fmt.Sprint(b.String(), err)
	}
	all["text/template"] = func() string {
		var b bytes.Buffer
		err := texttemplate.Must(texttemplate.New("").Parse("{{.}} {{printf \"%s\" .}} {{print .}}")).Execute(&b, v)
		return fmt.Sprint(b.String(), err)
	}
	all["html/template"] = func() string {
		var b bytes.Buffer
		err := template.Must(template.New("").Parse("<p a='{{.}}'>{{.}}</p><script>x={{.}}</script>")).Execute(&b, v)
		return fmt.Sprint(b.String(), err)
	}
	// testify prints both sides of a difference by go-spew, which walks through
	// pointers and unexported fields and, as testify sets it, ignores methods.
	all["testify difference"] = func() string { return recorded(func(t assert.TestingT) { assert.Equal(t, v, wrap(v)) }) }
	all["testify nil"] = func() string { return recorded(func(t assert.TestingT) { assert.Nil(t, v) }) }
	all["testify message"] = func() string {
		return recorded(func(t assert.TestingT) { assert.Fail(t, "f", "with %v and %#v", v, v) })
	}
	all["reflection"] = func() string { var b strings.Builder; walk(&b, reflect.ValueOf(v), 0); return b.String() }
	all["a recovered panic"] = func() (out string) {
		defer func() { out = fmt.Sprint(recover()) }()
		panic(v)
	}
	for oid, column := range map[uint32]string{
		pgtype.TextOID: "text", pgtype.VarcharOID: "varchar", pgtype.ByteaOID: "bytea", pgtype.DateOID: "date",
		pgtype.JSONOID: "json", pgtype.JSONBOID: "jsonb", pgtype.TimestamptzOID: "timestamptz", pgtype.UnknownOID: "unknown", 0: "no type",
	} {
		for name, format := range map[string]int16{"text": pgtype.TextFormatCode, "binary": pgtype.BinaryFormatCode} {
			all["pgx "+column+" in "+name] = func() string {
				b, err := pgtype.NewMap().Encode(oid, format, v, nil)
				return fmt.Sprint(string(b), err)
			}
		}
	}
	return all
}

// recorder keeps what testify would print.
type recorder struct{ strings.Builder }

func (r *recorder) Errorf(format string, args ...any) { _, _ = fmt.Fprintf(r, format, args...) }

func recorded(f func(assert.TestingT)) string {
	r := &recorder{}
	f(r)
	return r.String()
}

// wrap returns a value of v's type that differs from it, so that testify prints a diff.
func wrap(v any) any { return reflect.Zero(reflect.TypeOf(v)).Interface() }

// walk prints every string, byte and number that plain reflection reaches.
func walk(b *strings.Builder, v reflect.Value, depth int) {
	if depth > 12 || !v.IsValid() {
		return
	}
	switch v.Kind() {
	case reflect.String:
		fmt.Fprintf(b, "%s ", v.String())
	case reflect.Pointer, reflect.Interface:
		walk(b, v.Elem(), depth+1)
	case reflect.Struct:
		for i := range v.NumField() {
			walk(b, v.Field(i), depth+1)
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			walk(b, v.Index(i), depth+1)
		}
		if v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8 {
			fmt.Fprintf(b, "%s ", v.Bytes())
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			walk(b, it.Key(), depth+1)
			walk(b, it.Value(), depth+1)
		}
	}
}

// shows tells whether the secret is in the output, plainly or in hexadecimal.
func shows(out, secret string) bool {
	low := strings.ToLower(out)
	spaced := strings.TrimSpace(fmt.Sprintf("% x", secret))
	return strings.Contains(low, strings.ToLower(secret)) ||
		strings.Contains(low, hex.EncodeToString([]byte(secret))) || strings.Contains(low, spaced)
}

func TestNothingPrintsAProtectedValue(t *testing.T) {
	date, err := phi.NewDate(1931, 7, 23)
	if err != nil {
		t.Fatal(err)
	}
	text := phi.NewText(marker)
	for name, v := range map[string]any{
		"text": text, "pointer": &text, "holder": hold(text), "pointer to holder": ptr(hold(text)), "slice": []phi.Text{text},
		"date": date, "date pointer": &date, "date holder": hold(date), "pointer to date holder": ptr(hold(date)),
	} {
		for way, show := range ways(v) {
			out := show()
			for _, secret := range []string{marker, markerDate, "1931", "23 Jul"} {
				if shows(out, secret) {
					t.Errorf("%s by %s shows the value: %s", name, way, out)
				}
			}
		}
	}
}

// TestAPlainStringIsFound is the twin: the same search over the same ways finds
// a plain string, so that the search above is known to work.
func TestAPlainStringIsFound(t *testing.T) {
	found := map[string]bool{}
	for _, v := range []any{marker, ptr(hold(marker)), []byte(marker), xmlHolder{marker}, errors.New(marker), date(markerDate)} {
		for way, show := range ways(v) {
			out := show()
			found[way] = found[way] || shows(out, marker) || shows(out, markerDate)
		}
	}
	for way, ok := range found {
		if ok == hides[way] {
			t.Errorf("%s: a plain string is found %v, expected %v", way, ok, !hides[way])
		}
	}
}

// hides are the ways by which not even a plain string shows: they print a type or
// part of the value, or refuse text. The list is held exact, so that it cannot
// cover for a way that leaks.
var hides = map[string]bool{"fmt %T": true, "fmt %10.3s": true}

type xmlHolder struct{ Value string }

type date string

func ptr[T any](v T) *T { return &v }

// TestCrashDoesNotPrint ends a process by a panic with the value: what the
// runtime writes does not show it, and shows a plain string.
func TestCrashDoesNotPrint(t *testing.T) {
	const which = "PHI_TEST_PANIC"
	switch os.Getenv(which) {
	case "protected":
		panic(phi.NewText(marker))
	case "record":
		panic(fmt.Errorf("%#v", hold(phi.NewText(marker))))
	case "plain":
		panic(marker)
	}
	for _, c := range []struct {
		value string
		shown bool
	}{{"protected", false}, {"record", false}, {"plain", true}} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCrashDoesNotPrint$")
		cmd.Env = append(os.Environ(), which+"="+c.value)
		out, err := cmd.CombinedOutput()
		if err == nil || !bytes.Contains(out, []byte("panic")) {
			t.Fatalf("%s: the process did not crash: %s", c.value, out)
		}
		if shows(string(out), marker) != c.shown {
			t.Errorf("%s: shown is not %v: %s", c.value, c.shown, out)
		}
	}
}

// TestStoringRefuses: what would put plain text into a database or a file is an
// error and not the mark, which would lose the value.
func TestStoringRefuses(t *testing.T) {
	d, err := phi.NewDate(1931, 7, 23)
	if err != nil {
		t.Fatal(err)
	}
	text := phi.NewText(marker)
	for _, v := range []any{text, &text, d, &d} {
		for _, oid := range []uint32{pgtype.TextOID, pgtype.VarcharOID, pgtype.ByteaOID, pgtype.DateOID, pgtype.TimestamptzOID, 0} {
			for _, format := range []int16{pgtype.TextFormatCode, pgtype.BinaryFormatCode} {
				if b, err := pgtype.NewMap().Encode(oid, format, v, nil); err == nil {
					t.Errorf("%T goes into a column of type %d as %q", v, oid, b)
				}
			}
		}
		if err := gob.NewEncoder(&bytes.Buffer{}).Encode(v); err == nil {
			t.Errorf("gob stores %T", v)
		}
	}
	for _, call := range []func() error{
		func() error { _, err := text.Value(); return err },
		func() error { _, err := d.Value(); return err },
		func() error { _, err := text.MarshalBinary(); return err },
		func() error { _, err := d.MarshalBinary(); return err },
	} {
		if err := call(); !errors.Is(err, phi.ErrPlain) {
			t.Errorf("got %v", err)
		}
	}
	if b, err := pgtype.NewMap().Encode(pgtype.TextOID, pgtype.TextFormatCode, marker, nil); err != nil || string(b) != marker {
		t.Errorf("a plain string: %q, %v", b, err)
	}
}
