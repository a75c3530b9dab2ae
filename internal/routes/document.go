package routes

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/caresphere/caresphere/tenants"
)

// header begins the signed text and names its form, so that a signature of the
// same key over anything else is never a route table.
const header = "caresphere route table v1\n"

// MaxDocument bounds a document in bytes: about 50,000 routes.
const MaxDocument = 16 << 20

// Sign returns the table as a signed note (golang.org/x/mod/sumdb/note, Ed25519):
// the header, one line of JSON with routes in order of slug and workers in order
// of id, a blank line and the signature. The same table gives the same document.
// It refuses a table that Verify would refuse.
func Sign(table tenants.RouteTable, signer note.Signer) ([]byte, error) {
	table.IssuedAt = table.IssuedAt.UTC()
	table.Routes = append([]tenants.Route{}, table.Routes...)
	table.Workers = append([]tenants.Worker{}, table.Workers...)
	for i := range table.Routes {
		table.Routes[i].NotAfter = table.Routes[i].NotAfter.UTC()
	}
	slices.SortFunc(table.Routes, func(a, b tenants.Route) int { return strings.Compare(a.Slug, b.Slug) })
	slices.SortFunc(table.Workers, func(a, b tenants.Worker) int { return strings.Compare(a.ID, b.ID) })
	if err := check(table); err != nil {
		return nil, err
	}
	payload, err := json.Marshal(table)
	if err != nil {
		return nil, fmt.Errorf("encoding the route table: %w", err)
	}
	doc, err := note.Sign(&note.Note{Text: header + string(payload) + "\n"}, signer)
	if err != nil {
		return nil, fmt.Errorf("signing the route table: %w", err)
	}
	if len(doc) > MaxDocument {
		return nil, fmt.Errorf("the route table has %d bytes, more than %d", len(doc), MaxDocument)
	}
	return doc, nil
}

// ErrNotAuthentic is the cause when a document is not what the key signed.
var ErrNotAuthentic = errors.New("the route table is not signed by the expected key")

// Verify returns the table in a document, if the verifier's key signed it. The
// error wraps ErrNotAuthentic for a wrong or missing signature.
func Verify(doc []byte, verifier note.Verifier) (tenants.RouteTable, error) {
	var table tenants.RouteTable
	if len(doc) > MaxDocument {
		return table, fmt.Errorf("the route table has more than %d bytes", MaxDocument)
	}
	n, err := note.Open(doc, note.VerifierList(verifier))
	if err != nil {
		return table, fmt.Errorf("%w: %w", ErrNotAuthentic, err)
	}
	// One signature in its one spelling: base64 leaves bits that nobody reads.
	if len(n.Sigs) != 1 || len(n.UnverifiedSigs) != 0 {
		return table, fmt.Errorf("%w: it has other signatures too", ErrNotAuthentic)
	}
	if _, err := base64.StdEncoding.Strict().DecodeString(n.Sigs[0].Base64); err != nil {
		return table, fmt.Errorf("%w: the signature is not spelled canonically", ErrNotAuthentic)
	}
	payload, ok := strings.CutPrefix(n.Text, header)
	if !ok {
		return table, fmt.Errorf("%w: it is another kind of document", ErrNotAuthentic)
	}
	// Unknown fields pass: a newer control plane may say more than this process knows.
	d := json.NewDecoder(bytes.NewReader([]byte(payload)))
	if err := d.Decode(&table); err != nil {
		return tenants.RouteTable{}, fmt.Errorf("decoding the route table: %w", err)
	}
	if err := check(table); err != nil {
		return tenants.RouteTable{}, err
	}
	return table, nil
}

// check refuses a table that could send a request to the wrong place.
func check(t tenants.RouteTable) error {
	if t.Version <= 0 {
		return errors.New("the route table has no version")
	}
	slugs, ids := map[string]bool{}, map[tenants.ID]bool{}
	for _, r := range t.Routes {
		if _, err := tenants.ParseSlug(r.Slug); err != nil {
			return fmt.Errorf("route %q: the slug is not valid", r.Slug)
		}
		switch {
		case slugs[r.Slug]:
			return fmt.Errorf("route %q stands twice", r.Slug)
		case r.TenantID.IsZero() || ids[r.TenantID]:
			return fmt.Errorf("route %q: the tenant is missing or has another route", r.Slug)
		case r.CellID == "":
			return fmt.Errorf("route %q has no cell", r.Slug)
		case r.NotAfter.IsZero():
			return fmt.Errorf("route %q has no end", r.Slug)
		case r.Mode != tenants.GateProbe && r.Mode != tenants.GateReadOnly && r.Mode != tenants.GateOpen:
			return fmt.Errorf("route %q: a gate that is %q has no route", r.Slug, r.Mode)
		}
		slugs[r.Slug], ids[r.TenantID] = true, true
	}
	workers := map[string]bool{}
	for _, w := range t.Workers {
		u, err := url.Parse(w.URL)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.Path != "" || u.User != nil || u.RawQuery != "" {
			return fmt.Errorf("worker %q: the URL must be https://host:port", w.ID)
		}
		if w.ID == "" || w.CellID == "" || workers[w.ID] {
			return fmt.Errorf("worker %q: the id or the cell is missing, or it stands twice", w.ID)
		}
		workers[w.ID] = true
	}
	return nil
}
