package web

import (
	"errors"
	"strings"

	"github.com/caresphere/caresphere/internal/httpx"
	"github.com/caresphere/caresphere/tenants"
)

// Form is a form with what was typed and what was wrong with it.
type Form struct {
	// Action is where it is posted; Submit the button's text.
	Action, Submit string
	Fields         []Field
	// Hidden are fields without a label, as a flow's token.
	Hidden []Field
	// Problem is what is wrong with the whole.
	Problem string
}

// Field is one input. Its id in the page is "f-" and its name.
type Field struct {
	Name, Label, Value, Hint, Error string
	// Type is an input type, "textarea", "select", "radio" or "checkbox"; text if empty.
	Type string
	// Path is what a domain's error calls the field, as "body.owner.email"; Name if empty.
	Path string
	// Autocomplete and InputMode are HTML's attributes of these names.
	Autocomplete, InputMode string
	Max                     int
	Required, Autofocus     bool
	// Checked is a checkbox's state.
	Checked bool
	Options []Option
}

// Option is a choice of a select or of radio buttons.
type Option struct {
	Value, Label, Hint string
}

// ID is the field's id in the page.
func (f Field) ID() string { return "f-" + f.Name }

// DescribedBy lists the ids of the texts that belong to the field.
func (f Field) DescribedBy() string {
	var ids []string
	if f.Hint != "" {
		ids = append(ids, f.ID()+"-hint")
	}
	if f.Error != "" {
		ids = append(ids, f.ID()+"-error")
	}
	return strings.Join(ids, " ")
}

// Field returns the field of this name, for templates that place fields themselves.
func (f Form) Field(name string) *Field {
	for i := range f.Fields {
		if f.Fields[i].Name == name {
			return &f.Fields[i]
		}
	}
	return nil
}

// Wrong returns the fields with an error, for the summary.
func (f Form) Wrong() []Field {
	var out []Field
	for _, field := range f.Fields {
		if field.Error != "" {
			out = append(out, field)
		}
	}
	return out
}

// Fail puts the error into the form, beside the fields that it names, and returns
// the status to answer with. An error without a kind is returned as it is.
func (f *Form) Fail(err error) (status int, unexpected error) {
	var e *tenants.Error
	if !errors.As(err, &e) || e.Kind == tenants.KindInternal {
		return 0, err
	}
	rest := e.Message
	for _, wrong := range e.Fields {
		if field := f.byPath(wrong.Field); field != nil {
			field.Error = sentence(wrong.Message)
			rest = ""
		}
	}
	if rest != "" {
		f.Problem = sentence(rest)
	}
	return httpx.Status(e.Kind), nil
}

func (f *Form) byPath(path string) *Field {
	for i := range f.Fields {
		p := f.Fields[i].Path
		if p == "" {
			p = "body." + f.Fields[i].Name
		}
		if p == path {
			return &f.Fields[i]
		}
	}
	return nil
}

// sentence makes "must be …" fit beside a field.
func sentence(s string) string {
	if s == "" {
		return s
	}
	s = strings.ToUpper(s[:1]) + s[1:]
	if !strings.HasSuffix(s, ".") {
		s += "."
	}
	return s
}
