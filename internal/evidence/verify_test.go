package evidence

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"

	"github.com/caresphere/caresphere/tenants"
)

func TestVerifyAcceptsWhatBuildMade(t *testing.T) {
	k := newKey(t, KeyName)
	b, a := bundle(t, k)

	pinned := Verify(b, k.verifier)
	require.True(t, pinned.OK, "%v", pinned.Problems)
	assert.True(t, pinned.Pinned)
	assert.Equal(t, Fingerprint(k.encoded), pinned.KeyFingerprint)
	assert.Equal(t, a.AgreementID.String(), pinned.Agreement.AgreementID)
	assert.Equal(t, "Hôpital A", pinned.Agreement.LegalName)
	assert.Equal(t, `Zoë "Z" Ångström`, pinned.Customer.Signer.Name)
	assert.Equal(t, PartyOperator, pinned.Operator.Party)

	free := Verify(b, nil)
	require.True(t, free.OK)
	assert.False(t, free.Pinned)
	assert.Equal(t, pinned.KeyFingerprint, free.KeyFingerprint)
}

func TestBundleIsDeterministic(t *testing.T) {
	k := newKey(t, KeyName)
	a := agreement(t, k)
	one, err := Build(a, k.signer, k.encoded)
	require.NoError(t, err)
	two, err := Build(a, k.signer, k.encoded)
	require.NoError(t, err)
	assert.Equal(t, one, two)
}

// region tells which part a byte of the bundle belongs to.
func region(t *testing.T, b []byte, at int) string {
	t.Helper()
	body, _, err := unframe(b)
	require.NoError(t, err)
	offset := len(b)
	for _, name := range parts {
		offset -= len(body[name])
	}
	for _, name := range parts {
		if at < offset {
			return PartFraming
		}
		if offset += len(body[name]); at < offset {
			return name
		}
	}
	t.Fatalf("byte %d is outside", at)
	return ""
}

func TestEveryByteCounts(t *testing.T) {
	k := newKey(t, KeyName)
	b, _ := bundle(t, k)
	regions := make([]string, len(b))
	for i := range b {
		regions[i] = region(t, b, i)
	}
	seen := map[string]int{}
	for i := range b {
		for _, flip := range []byte{0x01, 0x20, 0x80, 0xff} {
			touched := bytes.Clone(b)
			touched[i] ^= flip
			for _, pin := range []note.Verifier{nil, k.verifier} {
				r := Verify(touched, pin)
				require.False(t, r.OK, "byte %d of %s, flipped by %#x, went unnoticed", i, regions[i], flip)
				named := false
				for _, p := range r.Problems {
					named = named || p.Part == regions[i]
				}
				require.True(t, named, "byte %d (%q) belongs to %s, blamed: %v", i, b[i], regions[i], r.Problems)
			}
		}
		seen[regions[i]]++
	}
	for _, part := range append([]string{PartFraming}, parts...) {
		assert.Positive(t, seen[part], part)
	}
}

func TestTruncatedAppendedAndShiftedBundlesAreRefused(t *testing.T) {
	k := newKey(t, KeyName)
	b, _ := bundle(t, k)
	for n := range b {
		r := Verify(b[:n], k.verifier)
		require.False(t, r.OK, "a bundle cut to %d bytes was accepted", n)
		require.Equal(t, PartFraming, r.Problems[0].Part)
	}
	for _, extra := range []string{"\n", " ", "\x00", "— caresphere-baa AAAA\n"} {
		r := Verify(append(bytes.Clone(b), extra...), k.verifier)
		require.False(t, r.OK)
		require.Equal(t, PartFraming, r.Problems[0].Part)
		require.False(t, Verify(append([]byte(extra), b...), k.verifier).OK)
	}
	for i := range b {
		require.False(t, Verify(append(bytes.Clone(b[:i]), b[i+1:]...), k.verifier).OK, "byte %d removed unnoticed", i)
	}
	require.False(t, Verify(nil, k.verifier).OK)
	require.False(t, Verify(make([]byte, maxBundle+1), k.verifier).OK)
}

// A forger recomputes every hash in the framing: only signatures can stop them.
func TestReframedPartsAreRefused(t *testing.T) {
	k := newKey(t, KeyName)
	b, _ := bundle(t, k)
	other, _ := bundle(t, k) // another agreement, sealed by the same key
	mine, _, err := unframe(b)
	require.NoError(t, err)
	theirs, _, err := unframe(other)
	require.NoError(t, err)

	for _, part := range parts[:6] {
		t.Run(part, func(t *testing.T) {
			body := map[string][]byte{}
			for _, p := range parts {
				body[p] = mine[p]
			}
			body[part] = theirs[part]
			if part == PartDocument || part == PartPDF {
				body[part] = append(bytes.Clone(mine[part]), ' ')
			}
			r := Verify(frame(body), k.verifier)
			require.False(t, r.OK)
			want := part
			if part == PartManifest {
				want = PartSignature // well-formed, of the same length, but not what this signature signed
			}
			assert.Equal(t, want, r.Problems[0].Part, "%v", r.Problems)
		})
	}
	t.Run("unused bits of base64", func(t *testing.T) {
		body := map[string][]byte{}
		for _, p := range parts {
			body[p] = mine[p]
		}
		s := string(mine[PartSignature])
		at := strings.Index(s, "=\n") - 1
		const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
		twin := alphabet[strings.IndexByte(alphabet, s[at])^1]
		body[PartSignature] = []byte(s[:at] + string(twin) + s[at+1:])
		_, err := note.Open(append(append(bytes.Clone(mine[PartManifest]), '\n'), body[PartSignature]...), note.VerifierList(k.verifier))
		require.NoError(t, err, "the twin must be one that a lax reader accepts")
		assert.False(t, Verify(frame(body), k.verifier).OK)
	})
}

func TestAnotherKeyIsRefusedWhenPinned(t *testing.T) {
	ours, theirs := newKey(t, KeyName), newKey(t, KeyName)
	b, _ := bundle(t, theirs)

	free := Verify(b, nil)
	assert.True(t, free.OK, "without a pin the bundle only says who made it")
	assert.Equal(t, Fingerprint(theirs.encoded), free.KeyFingerprint)

	r := Verify(b, ours.verifier)
	require.False(t, r.OK)
	assert.Equal(t, PartKey, r.Problems[0].Part)
}

func TestBuildRefusesWhatDoesNotBelongTogether(t *testing.T) {
	k := newKey(t, KeyName)
	cases := map[string]func(*Agreement){
		"another document":                 func(a *Agreement) { a.Document = []byte("other\n") },
		"another agreement":                func(a *Agreement) { a.AgreementID = tenants.NewID() },
		"another organization":             func(a *Agreement) { a.OrganizationID = tenants.NewID() },
		"another template":                 func(a *Agreement) { a.TemplateVersion = "v2" },
		"signatures swapped":               func(a *Agreement) { a.Customer, a.Operator = a.Operator, a.Customer },
		"the customer's own twice":         func(a *Agreement) { a.Operator = a.Customer },
		"executed at another time":         func(a *Agreement) { a.ExecutedAt = a.ExecutedAt.Add(time.Second) },
		"expired before it began":          func(a *Agreement) { a.ExpiresAt = a.ExecutedAt },
		"no name":                          func(a *Agreement) { a.LegalName = "" },
		"countersigning another signature": func(a *Agreement) { *a = withOtherCustomer(t, *a, k) },
		"countersigned before it was signed": func(a *Agreement) {
			o, err := Peek(a.Operator)
			require.NoError(t, err)
			o.SignedAt = signedAt.Add(-time.Hour)
			a.ExecutedAt = o.SignedAt
			a.Operator, err = Seal(o, k.signer)
			require.NoError(t, err)
		},
	}
	for name, spoil := range cases {
		t.Run(name, func(t *testing.T) {
			a := agreement(t, k)
			spoil(&a)
			_, err := Build(a, k.signer, k.encoded)
			require.Error(t, err)
		})
	}
	_, err := Build(agreement(t, k), newKey(t, "caresphere-audit").signer, k.encoded)
	require.ErrorContains(t, err, "caresphere-audit")
	_, err = Build(agreement(t, k), k.signer, newKey(t, KeyName).encoded)
	require.Error(t, err)
}

func withOtherCustomer(t *testing.T, a Agreement, k platformKey) Agreement {
	t.Helper()
	c, err := Peek(a.Customer)
	require.NoError(t, err)
	c.Signer.Name = "Somebody Else"
	a.Customer, err = Seal(c, k.signer)
	require.NoError(t, err)
	return a
}

func TestSealDemandsACompleteRecord(t *testing.T) {
	k := newKey(t, KeyName)
	_, err := Seal(customerSignature(), k.signer)
	require.NoError(t, err)
	cases := map[string]func(*Signature){
		"party":         func(s *Signature) { s.Party = "witness" },
		"agreement":     func(s *Signature) { s.AgreementID = tenants.NilID },
		"organization":  func(s *Signature) { s.OrganizationID = tenants.NilID },
		"template":      func(s *Signature) { s.TemplateVersion = "" },
		"document":      func(s *Signature) { s.DocumentSHA256 = strings.ToUpper(s.DocumentSHA256) },
		"identity":      func(s *Signature) { s.Signer.IdentityID = tenants.NilID },
		"e-mail":        func(s *Signature) { s.Signer.Email = "" },
		"name":          func(s *Signature) { s.Signer.Name = "" },
		"title":         func(s *Signature) { s.Signer.Title = "" },
		"authority":     func(s *Signature) { s.Signer.Authority = "" },
		"consent":       func(s *Signature) { s.Consent.Affirmed = false },
		"intent":        func(s *Signature) { s.Intent.Affirmed = false },
		"session":       func(s *Signature) { s.Authentication.SessionID = tenants.NilID },
		"second factor": func(s *Signature) { s.Authentication.SecondFactorAt = time.Time{} },
		"time":          func(s *Signature) { s.SignedAt = time.Time{} },
		"countersigns":  func(s *Signature) { s.CountersignsSHA256 = Hash(nil) },
	}
	for name, spoil := range cases {
		t.Run(name, func(t *testing.T) {
			s := customerSignature()
			spoil(&s)
			_, err := Seal(s, k.signer)
			require.Error(t, err)
		})
	}
}

func TestDecodeRefusesOtherSpellings(t *testing.T) {
	k := newKey(t, KeyName)
	sealed, err := Seal(customerSignature(), k.signer)
	require.NoError(t, err)
	text, err := open(sealed, k.verifier)
	require.NoError(t, err)
	var s Signature
	require.NoError(t, decode(text, &s))

	var fields map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(text, &fields))
	reordered, err := json.Marshal(fields)
	require.NoError(t, err)
	for name, twin := range map[string][]byte{
		"reordered":     append(reordered, '\n'),
		"unknown field": bytes.Replace(text, []byte("{"), []byte(`{"x":1,`), 1),
		"double field":  bytes.Replace(text, []byte(`"party"`), []byte(`"party":"customer","party"`), 1),
		"other case":    bytes.Replace(text, []byte(`"party"`), []byte(`"Party"`), 1),
		"space":         bytes.Replace(text, []byte(`{`), []byte(`{ `), 1),
		"no newline":    bytes.TrimSuffix(text, []byte("\n")),
		"two values":    append(bytes.Clone(text), text...),
	} {
		assert.Error(t, decode(twin, &Signature{}), name)
	}
}

func TestParseKey(t *testing.T) {
	k, audit := newKey(t, KeyName), newKey(t, "caresphere-audit")
	encoded, _, err := ParseKey(audit.encoded + "\n" + k.encoded + "\n")
	require.NoError(t, err)
	assert.Equal(t, k.encoded, encoded)
	for name, text := range map[string]string{
		"empty": "", "another name": audit.encoded, "two": k.encoded + "\n" + newKey(t, KeyName).encoded,
		"broken": k.encoded[:len(k.encoded)-3],
	} {
		_, _, err := ParseKey(text)
		assert.Error(t, err, name)
	}
}

func FuzzVerify(f *testing.F) {
	k := newKey(f, KeyName)
	b, _ := bundle(f, k)
	f.Add(b)
	f.Add([]byte(magic))
	f.Add(b[:len(b)/2])
	f.Add(bytes.Replace(b, []byte("pdf "), []byte("pdf -"), 1))
	f.Fuzz(func(t *testing.T, in []byte) {
		Verify(in, nil)
		if r := Verify(in, k.verifier); r.OK && !bytes.Equal(in, b) {
			t.Fatal("accepted bytes that the key never signed")
		}
	})
}
