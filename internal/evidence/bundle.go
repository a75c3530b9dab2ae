package evidence

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/caresphere/caresphere/tenants"
)

const (
	magic          = "CareSphere BAA evidence bundle 1\n"
	manifestFormat = "caresphere-baa-bundle/1"
	// maxBundle is far above what an agreement needs and small enough to hold in memory.
	maxBundle = 16 << 20
)

// The parts of a bundle, in the order in which they stand in the file.
const (
	PartDocument  = "document"
	PartCustomer  = "customer-evidence"
	PartOperator  = "operator-evidence"
	PartPDF       = "pdf"
	PartManifest  = "manifest"
	PartSignature = "signature"
	PartKey       = "key"
	// PartFraming is what stands around the parts: the header and their lengths.
	PartFraming = "framing"
)

var parts = []string{PartDocument, PartCustomer, PartOperator, PartPDF, PartManifest, PartSignature, PartKey}

// content are the parts that the manifest lists.
var content = parts[:4]

// Agreement is what goes into a bundle.
type Agreement struct {
	AgreementID     tenants.ID
	OrganizationID  tenants.ID
	LegalName       string
	TemplateVersion string
	ExecutedAt      time.Time
	ExpiresAt       time.Time
	// Document is the canonical text; PDF its rendering with both signatures.
	Document, PDF []byte
	// Customer and Operator are the sealed signatures.
	Customer, Operator []byte
}

// manifest says what belongs together. It is the text of a signed note.
type manifest struct {
	Format          string     `json:"format"`
	AgreementID     tenants.ID `json:"agreement_id"`
	OrganizationID  tenants.ID `json:"organization_id"`
	LegalName       string     `json:"legal_name"`
	TemplateVersion string     `json:"template_version"`
	ExecutedAt      time.Time  `json:"executed_at"`
	ExpiresAt       time.Time  `json:"expires_at"`
	Parts           []entry    `json:"parts"`
}

type entry struct {
	Name   string `json:"name"`
	Bytes  int    `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// Build makes the bundle of an executed agreement: the same bytes for the same
// agreement and key. It refuses to make one that Verify would not accept.
func Build(a Agreement, signer note.Signer, encodedKey string) ([]byte, error) {
	_, verifier, err := ParseKey(encodedKey)
	if err != nil {
		return nil, err
	}
	body := map[string][]byte{PartDocument: a.Document, PartCustomer: a.Customer, PartOperator: a.Operator, PartPDF: a.PDF}
	m := manifest{Format: manifestFormat, AgreementID: a.AgreementID, OrganizationID: a.OrganizationID,
		LegalName: a.LegalName, TemplateVersion: a.TemplateVersion,
		ExecutedAt: a.ExecutedAt.UTC().Truncate(time.Microsecond), ExpiresAt: a.ExpiresAt.UTC().Truncate(time.Microsecond)}
	for _, name := range content {
		m.Parts = append(m.Parts, entry{name, len(body[name]), Hash(body[name])})
	}
	text, err := encode(m)
	if err != nil {
		return nil, err
	}
	sealed, err := sign(text, signer)
	if err != nil {
		return nil, err
	}
	body[PartManifest] = text
	body[PartSignature] = sealed[len(text)+1:]
	body[PartKey] = []byte(encodedKey + "\n")

	bundle := frame(body)
	if r := Verify(bundle, verifier); !r.OK {
		return nil, fmt.Errorf("the bundle does not verify: %s", r.Problems[0])
	}
	return bundle, nil
}

// frame writes the parts one after the other behind a header that gives each
// one's length and hash.
func frame(body map[string][]byte) []byte {
	var b bytes.Buffer
	b.WriteString(magic)
	for _, name := range parts {
		fmt.Fprintf(&b, "%s %d %s\n", name, len(body[name]), Hash(body[name]))
	}
	b.WriteByte('\n')
	for _, name := range parts {
		b.Write(body[name])
	}
	return b.Bytes()
}

// unframe takes a bundle apart. It returns the parts and the hash that the header
// claims for each; it has compared nothing yet. The error describes the framing.
func unframe(bundle []byte) (body map[string][]byte, claimed map[string]string, err error) {
	if len(bundle) > maxBundle {
		return nil, nil, fmt.Errorf("larger than %d bytes", maxBundle)
	}
	rest, ok := bytes.CutPrefix(bundle, []byte(magic))
	if !ok {
		return nil, nil, errors.New("does not begin as a bundle does")
	}
	sizes := map[string]int{}
	claimed = map[string]string{}
	total := 0
	for _, name := range parts {
		line, tail, ok := bytes.Cut(rest, []byte("\n"))
		if !ok {
			return nil, nil, fmt.Errorf("ends before the length of %s", name)
		}
		f := strings.Split(string(line), " ")
		if len(f) != 3 || f[0] != name || !isHash(f[2]) {
			return nil, nil, fmt.Errorf("the header's line for %s is malformed", name)
		}
		n, err := strconv.Atoi(f[1])
		if err != nil || n < 0 || n > maxBundle || strconv.Itoa(n) != f[1] {
			return nil, nil, fmt.Errorf("the length of %s is malformed", name)
		}
		sizes[name], claimed[name], total, rest = n, f[2], total+n, tail
	}
	rest, ok = bytes.CutPrefix(rest, []byte("\n"))
	if !ok {
		return nil, nil, errors.New("the header does not end with an empty line")
	}
	switch {
	case len(rest) < total:
		return nil, nil, fmt.Errorf("%d bytes are missing, or a length was changed", total-len(rest))
	case len(rest) > total:
		return nil, nil, fmt.Errorf("%d bytes too many, or a length was changed", len(rest)-total)
	}
	body = map[string][]byte{}
	for _, name := range parts {
		body[name], rest = rest[:sizes[name]], rest[sizes[name]:]
	}
	return body, claimed, nil
}
