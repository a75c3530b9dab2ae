package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"time"

	"github.com/caresphere/caresphere/internal/client"
)

// Seeded is the demonstration organization of a local stack and who can sign in.
type Seeded struct {
	Organization string   `json:"organization"`
	Slug         string   `json:"slug"`
	Origin       string   `json:"origin"`
	People       []SignIn `json:"people"`
}

// SignIn is how one demonstration person signs in.
type SignIn struct {
	Role       string `json:"role"`
	Name       string `json:"name"`
	Email      string `json:"email"`
	Password   string `json:"password"`
	TOTPSecret string `json:"totp_secret"`
}

// ReadSeeded reads what Seed wrote; fs.ErrNotExist before it did.
func ReadSeeded(path string) (Seeded, error) {
	var s Seeded
	b, err := os.ReadFile(path) // #nosec G304 -- the stack's own file
	if err != nil {
		return s, fmt.Errorf("reading the demonstration's people: %w", err)
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, fmt.Errorf("reading %s: %w", path, err)
	}
	return s, nil
}

// Seed makes one residential organization with an owner, a nurse, a facility, a
// client and a note, through the public interfaces, and writes the people's
// credentials to path (0600). It does nothing when path exists. Only for a local
// stack: the people and their records are made up.
func Seed(ctx context.Context, o Options, path string) (Seeded, error) {
	if s, err := ReadSeeded(path); !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	s := &story{o: o, tls: client.Options{Roots: o.Roots}, suffix: secretWord()[3:9]}
	org := &organization{legalName: "Sunrise Gardens Residential Care", slug: "sunrise-gardens", setting: "residential", ownerName: "Grace Lindholm"}
	s.a, s.b = org, nil
	for _, f := range []func(context.Context) error{s.seedOrganization, s.seedAgreement, s.seedStaff, s.seedRecords} {
		if err := f(ctx); err != nil {
			return Seeded{}, fmt.Errorf("seeding the demonstration organization: %w", err)
		}
	}
	out := Seeded{Organization: org.legalName, Slug: org.slug, Origin: o.Origin, People: []SignIn{
		{Role: "owner", Name: org.ownerName, Email: org.owner.email, Password: org.owner.password, TOTPSecret: org.owner.secret},
		{Role: "nurse", Name: "Nora Patel", Email: s.north.email, Password: s.north.password, TOTPSecret: s.north.secret},
	}}
	b, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return out, err
	}
	if err := os.WriteFile(path, append(b, '\n'), 0o600); err != nil {
		return out, fmt.Errorf("keeping the demonstration's people: %w", err)
	}
	return out, nil
}

func (s *story) seedOrganization(ctx context.Context) error {
	org := s.a
	c := client.New(s.o.Origin, s.tls)
	defer c.Close()
	var (
		made client.SignedUp
		err  error
	)
	for range 2 {
		org.owner.email = "owner@" + org.slug + ".example"
		made, err = c.SignUp(ctx, client.SignUp{
			Organization: client.SignUpOrganization{LegalName: org.legalName, Slug: org.slug, CareSetting: org.setting},
			Owner:        client.SignUpOwner{Name: org.ownerName, Email: org.owner.email},
		}, "seed-"+org.slug+s.suffix)
		if client.StatusOf(err) != http.StatusConflict {
			break
		}
		// An earlier start ended half way: its organization stays, under its name.
		org.slug = "sunrise-gardens-" + s.suffix
	}
	if err != nil {
		return err
	}
	org.id = made.OrganizationID
	org.owner.Client, org.owner.password, org.owner.secret, err = Join(ctx, s.o.Origin, s.tls, org.owner.email)
	return err
}

func (s *story) seedAgreement(ctx context.Context) error {
	org := s.a
	if s.operator == nil {
		s.operator = client.New(s.o.Operator.Origin, s.tls)
		if err := s.operator.SignIn(ctx, s.o.Operator.Email, s.o.Operator.Password, s.o.Operator.TOTPSecret); err != nil {
			return fmt.Errorf("the operator: %w", err)
		}
	}
	var err error
	if org.baa, err = agree(ctx, org, s.operator); err != nil {
		return err
	}
	return until(ctx, 60*time.Second, 200*time.Millisecond, func(ctx context.Context) (bool, string, error) {
		err := org.owner.Tenant(org.slug).Do(ctx, http.MethodGet, "/session", nil, nil)
		return err == nil, "", err
	})
}

// agree has both parties sign the agreement that waits, or a new one.
func agree(ctx context.Context, org *organization, operator *client.Client) (client.BAA, error) {
	baa, err := org.owner.CurrentBAA(ctx)
	if err == nil && baa.State != "draft" {
		baa, err = org.owner.NewBAA(ctx)
	}
	if err != nil {
		return baa, err
	}
	baa, err = org.owner.SignBAA(ctx, baa.ID, client.Signature{Name: org.ownerName, Title: "Executive Director",
		Authority: "I am authorized to bind the organization.", Consent: true, Intent: true, DocumentSHA256: baa.DocumentSHA256})
	if err != nil {
		return baa, err
	}
	return operator.CountersignBAA(ctx, baa.ID, client.Signature{Name: "Riley Stone", Title: "Compliance Officer",
		Consent: true, Intent: true, DocumentSHA256: baa.DocumentSHA256})
}

func (s *story) seedStaff(ctx context.Context) error {
	if err := s.invite(ctx, s.a, &s.north, "Nora Patel", "nurse", "Garden House"); err != nil {
		return err
	}
	var err error
	s.north.Client, s.north.password, s.north.secret, err = Join(ctx, s.o.Origin, s.tls, s.north.email)
	return err
}

func (s *story) seedRecords(ctx context.Context) error {
	t := s.north.Tenant(s.a.slug)
	p, err := t.CreateClient(ctx, client.Person{FacilityID: s.a.facilities["Garden House"],
		Name: client.PersonName{Given: "Eleanor", Family: "Whitfield"}, BirthDate: "1941-03-09", RecordNumber: "SG-0001"}, "seed-client")
	if err != nil {
		return err
	}
	_, err = t.CreateNote(ctx, p.ID, client.Note{Shift: "day", Body: "Settled in well. Walked in the garden before lunch."}, "seed-note")
	return err
}
