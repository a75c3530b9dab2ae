package baa

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"strings"
	"text/template"

	"github.com/caresphere/caresphere/tenants"
)

//go:embed templates
var embedded embed.FS

// currentVersion is the template that new agreements are made of. A published
// template is never edited: agreements that wait for a signature name it.
const currentVersion = "v1"

// Template is one version of the agreement's text and of what signers affirm.
type Template struct {
	Version            string
	text               *template.Template
	Customer, Operator Statements
}

// Statements are what a signer is shown beside the text and affirms.
type Statements struct {
	Consent string `json:"consent"`
	Intent  string `json:"intent"`
	// Authority is the fixed statement of a party whose signers do not write one.
	Authority string `json:"authority"`
}

// Terms fill a template.
type Terms struct {
	AgreementID     tenants.ID
	TemplateVersion string
	// Customer and Platform are the parties' legal names.
	Customer, Platform string
	TermMonths         int
}

// Term is the term in words, for the text.
func (t Terms) Term() string {
	years, months := t.TermMonths/12, t.TermMonths%12
	var parts []string
	for _, p := range []struct {
		n    int
		unit string
	}{{years, "year"}, {months, "month"}} {
		switch {
		case p.n == 1:
			parts = append(parts, "one "+p.unit)
		case p.n > 1:
			parts = append(parts, fmt.Sprintf("%d %ss", p.n, p.unit))
		}
	}
	return strings.Join(parts, " and ")
}

// CurrentTemplate returns the embedded template that new agreements use.
func CurrentTemplate() (Template, error) { return LoadTemplate(embedded, currentVersion) }

// LoadTemplate reads templates/<version> of a file system.
func LoadTemplate(fsys fs.FS, version string) (Template, error) {
	t := Template{Version: version}
	text, err := fs.ReadFile(fsys, "templates/"+version+"/agreement.txt")
	if err != nil {
		return t, fmt.Errorf("reading the agreement's template: %w", err)
	}
	if t.text, err = template.New(version).Option("missingkey=error").Parse(string(text)); err != nil {
		return t, fmt.Errorf("parsing the agreement's template: %w", err)
	}
	raw, err := fs.ReadFile(fsys, "templates/"+version+"/statements.json")
	if err != nil {
		return t, fmt.Errorf("reading the template's statements: %w", err)
	}
	var s struct{ Customer, Operator Statements }
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		return t, fmt.Errorf("reading the template's statements: %w", err)
	}
	t.Customer, t.Operator = s.Customer, s.Operator
	return t, nil
}

// Render returns the canonical text: UTF-8, lines ended by LF, one paragraph a
// line. It is what is hashed, shown and signed. Names with line breaks or control
// characters are refused: they could pose as paragraphs of the agreement.
func (t Template) Render(terms Terms) ([]byte, error) {
	terms.TemplateVersion = t.Version
	for _, name := range []string{terms.Customer, terms.Platform} {
		if err := checkLine("legal_name", name, 1, 200); err != nil {
			return nil, err
		}
	}
	var b bytes.Buffer
	if err := t.text.Execute(&b, terms); err != nil {
		return nil, fmt.Errorf("rendering the agreement: %w", err)
	}
	return b.Bytes(), nil
}
