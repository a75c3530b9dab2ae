package evidence

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// Problem is one thing that is wrong with a bundle.
type Problem struct {
	// Part is one of the Part constants.
	Part    string `json:"part"`
	Message string `json:"message"`
}

func (p Problem) String() string { return p.Part + ": " + p.Message }

// Report is what a verification found.
type Report struct {
	// OK is true only if nothing at all is wrong.
	OK bool `json:"ok"`
	// Pinned tells whether the key was compared with one that the reader brought.
	// Without it OK says no more than that whoever holds the named key made this.
	Pinned         bool       `json:"pinned"`
	KeyFingerprint string     `json:"key_fingerprint"`
	Problems       []Problem  `json:"problems"`
	Agreement      *Summary   `json:"agreement,omitempty"`
	Customer       *Signature `json:"customer,omitempty"`
	Operator       *Signature `json:"operator,omitempty"`
}

// Summary is what the manifest says of the agreement.
type Summary struct {
	AgreementID     string    `json:"agreement_id"`
	OrganizationID  string    `json:"organization_id"`
	LegalName       string    `json:"legal_name"`
	TemplateVersion string    `json:"template_version"`
	DocumentSHA256  string    `json:"document_sha256"`
	ExecutedAt      time.Time `json:"executed_at"`
	ExpiresAt       time.Time `json:"expires_at"`
}

func (r *Report) add(part, format string, args ...any) {
	for _, p := range r.Problems {
		if p.Part == part {
			return // the first message about a part is the most exact one
		}
	}
	r.Problems = append(r.Problems, Problem{part, fmt.Sprintf(format, args...)})
}

// Verify checks a bundle down to the last byte. With a pin the bundle's own key
// must be that key; nil means no pin. It never fails: whatever is wrong is in the
// report, with the part that was touched.
func Verify(bundle []byte, pin note.Verifier) Report {
	r := Report{Pinned: pin != nil, Problems: []Problem{}}
	body, claimed, err := unframe(bundle)
	if err != nil {
		r.add(PartFraming, "%v", err)
		return r
	}
	v := verification{body: body, claimed: claimed, report: &r}
	v.hashes()
	if v.key(pin) && v.manifest() {
		v.contents()
		v.signatures()
	} else {
		v.blame()
	}
	r.OK = len(r.Problems) == 0
	return r
}

type verification struct {
	body     map[string][]byte
	claimed  map[string]string
	actual   map[string]string
	verifier note.Verifier
	m        manifest
	report   *Report
}

func (v *verification) hashes() {
	v.actual = map[string]string{}
	for _, name := range parts {
		v.actual[name] = Hash(v.body[name])
	}
}

// differs tells whether a part is not what the header says it is.
func (v *verification) differs(part string) bool { return v.actual[part] != v.claimed[part] }

// key reads the bundle's key and compares it with the pin.
func (v *verification) key(pin note.Verifier) bool {
	encoded, verifier, err := ParseKey(string(v.body[PartKey]))
	if err != nil || string(v.body[PartKey]) != encoded+"\n" {
		v.report.add(PartKey, "is not one verifier key named %s", KeyName)
		return false
	}
	v.report.KeyFingerprint = Fingerprint(encoded)
	v.verifier = verifier
	if pin == nil {
		return true
	}
	// The pin decides, not the bundle: names and hashes of keys can be made to
	// collide, a signature cannot.
	v.verifier = pin
	if verifier.Name() != pin.Name() || verifier.KeyHash() != pin.KeyHash() {
		v.report.add(PartKey, "is not the key that was expected (its fingerprint is %s)", v.report.KeyFingerprint)
		return false
	}
	return true
}

// manifest checks the signature over the manifest and reads it.
func (v *verification) manifest() bool {
	sealed := slices.Concat(v.body[PartManifest], []byte("\n"), v.body[PartSignature])
	text, err := open(sealed, v.verifier)
	if err != nil || !bytes.Equal(text, v.body[PartManifest]) {
		return false
	}
	if err := decode(text, &v.m); err != nil {
		v.report.add(PartManifest, "%v", err)
		return false
	}
	return true
}

// blame names what was touched when the signature over the manifest does not hold.
func (v *verification) blame() {
	for _, part := range parts {
		if v.differs(part) {
			v.report.add(part, "was changed")
		}
	}
	if len(v.report.Problems) == 0 {
		v.report.add(PartSignature, "is not a signature of this manifest by this key")
	}
}

// contents compares each part with the signed manifest. Where a part is what was
// signed and the header says otherwise, the header was touched.
func (v *verification) contents() {
	listed := len(v.m.Parts) == len(content)
	for i, name := range content {
		if !listed || v.m.Parts[i].Name != name {
			v.report.add(PartManifest, "does not list the parts of a bundle")
			return
		}
		if e := v.m.Parts[i]; e.SHA256 != v.actual[name] || e.Bytes != len(v.body[name]) {
			v.report.add(name, "is not what was signed")
		}
	}
	for _, name := range parts {
		if v.differs(name) && !v.blamed(name) {
			v.report.add(PartFraming, "the header's hash of %s is wrong", name)
		}
	}
}

func (v *verification) blamed(part string) bool {
	return slices.ContainsFunc(v.report.Problems, func(p Problem) bool { return p.Part == part })
}

// signatures checks both parties' sealed records and that they, the document and
// the manifest speak of one and the same agreement.
func (v *verification) signatures() {
	m, r := v.m, v.report
	document := v.actual[PartDocument]
	r.Agreement = &Summary{AgreementID: m.AgreementID.String(), OrganizationID: m.OrganizationID.String(),
		LegalName: m.LegalName, TemplateVersion: m.TemplateVersion, DocumentSHA256: document,
		ExecutedAt: m.ExecutedAt, ExpiresAt: m.ExpiresAt}
	if m.Format != manifestFormat || m.AgreementID.IsZero() || m.OrganizationID.IsZero() || m.LegalName == "" ||
		!m.ExecutedAt.Before(m.ExpiresAt) {
		r.add(PartManifest, "is incomplete")
	}
	read := func(part, party string) *Signature {
		s, err := Unseal(v.body[part], v.verifier)
		switch {
		case err != nil:
			r.add(part, "%v", err)
			return nil
		case s.Party != party:
			r.add(part, "is not the %s's", party)
		case s.AgreementID != m.AgreementID || s.OrganizationID != m.OrganizationID || s.TemplateVersion != m.TemplateVersion:
			r.add(part, "speaks of another agreement")
		case s.DocumentSHA256 != document:
			r.add(part, "was given to another document")
		}
		return &s
	}
	r.Customer, r.Operator = read(PartCustomer, PartyCustomer), read(PartOperator, PartyOperator)
	if r.Customer == nil || r.Operator == nil {
		return
	}
	if r.Operator.CountersignsSHA256 != v.actual[PartCustomer] {
		r.add(PartOperator, "countersigns another signature")
	}
	if r.Operator.SignedAt.Before(r.Customer.SignedAt) || !m.ExecutedAt.Equal(r.Operator.SignedAt) {
		r.add(PartManifest, "its times do not follow those of the signatures")
	}
}
