// Package config fills a process's settings from its environment. It owns the
// form of a setting: a struct field with a tag names the variable, whether it
// must be set and what holds otherwise. It trusts the environment, keeps no
// state, and never puts a value into an error: a value may be a password.
package config

import (
	"encoding"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Prefix starts the name of every variable.
const Prefix = "CARESPHERE_"

// Load returns a T filled from the environment. T is a struct; a field with the
// tag `env:"CARESPHERE_X"` gets that variable's value, else the tag `default:"…"`,
// else its zero value. With `required:"true"` an empty or missing variable is an
// error. Structs without the tag are filled in turn, embedded ones included.
//
// Fields may be string, bool, int, time.Duration ("90s"), []string (separated by
// commas) or anything that implements encoding.TextUnmarshaler. The error names
// every missing and every wrong variable at once, an *Error.
func Load[T any]() (T, error) { return From[T](os.LookupEnv) }

// From is Load with another source of variables.
func From[T any](lookup func(string) (string, bool)) (T, error) {
	var settings T
	v := reflect.ValueOf(&settings).Elem()
	if v.Kind() != reflect.Struct {
		return settings, fmt.Errorf("settings must be a struct, not %s", v.Kind())
	}
	wrong := &Error{}
	fill(v, lookup, wrong)
	if len(wrong.Problems) > 0 {
		return settings, wrong
	}
	return settings, nil
}

// Error lists all that is wrong with the environment.
type Error struct {
	Problems []Problem
}

// Problem says what is wrong with one variable, without its value.
type Problem struct {
	Variable string
	Reason   string
}

// Error implements error, one line a variable.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("the environment is not complete:")
	for _, p := range e.Problems {
		fmt.Fprintf(&b, "\n  %s %s", p.Variable, p.Reason)
	}
	return b.String()
}

func (e *Error) add(variable, reason string) {
	e.Problems = append(e.Problems, Problem{Variable: variable, Reason: reason})
}

func fill(v reflect.Value, lookup func(string) (string, bool), wrong *Error) {
	for i := range v.NumField() {
		field, value := v.Type().Field(i), v.Field(i)
		name, tagged := field.Tag.Lookup("env")
		if !tagged {
			if value.Kind() == reflect.Struct && (field.IsExported() || field.Anonymous) {
				fill(value, lookup, wrong)
			}
			continue
		}
		text, _ := lookup(name)
		if text == "" {
			if field.Tag.Get("required") == "true" {
				wrong.add(name, "is not set")
				continue
			}
			if text = field.Tag.Get("default"); text == "" {
				continue
			}
		}
		if !field.IsExported() {
			wrong.add(name, "belongs to a field that is not exported")
			continue
		}
		if err := set(value, text); err != nil {
			wrong.add(name, err.Error())
		}
	}
}

var durationType = reflect.TypeFor[time.Duration]()

// set never repeats text in an error.
func set(v reflect.Value, text string) error {
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if u.UnmarshalText([]byte(text)) != nil {
			return fmt.Errorf("is not a valid %s", v.Type())
		}
		return nil
	}
	switch {
	case v.Type() == durationType:
		d, err := time.ParseDuration(text)
		if err != nil {
			return errors.New("must be a duration like 90s or 5m")
		}
		v.SetInt(int64(d))
	case v.Kind() == reflect.String:
		v.SetString(text)
	case v.Kind() == reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return errors.New("must be 1 or 0, true or false")
		}
		v.SetBool(b)
	case v.Kind() == reflect.Int, v.Kind() == reflect.Int64:
		n, err := strconv.ParseInt(text, 10, v.Type().Bits())
		if err != nil {
			return errors.New("must be a whole number")
		}
		v.SetInt(n)
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.String:
		list := reflect.MakeSlice(v.Type(), 0, 4)
		for part := range strings.SplitSeq(text, ",") {
			if part = strings.TrimSpace(part); part != "" {
				list = reflect.Append(list, reflect.ValueOf(part).Convert(v.Type().Elem()))
			}
		}
		v.Set(list)
	default:
		return fmt.Errorf("has a field of type %s, which settings cannot have", v.Type())
	}
	return nil
}
