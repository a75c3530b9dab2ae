package demo

import (
	"context"
	"fmt"

	"github.com/caresphere/caresphere/internal/client"
)

// Person is somebody with a session, and how they sign in anew.
type Person struct {
	*client.Client
	SignIn
}

// Live is an organization that is served: its agreement is in force, and two of
// its people hold sessions with a second factor.
type Live struct {
	ID, Slug, Name string
	// BAA is the agreement in force when the organization went live, or since Agree.
	BAA client.BAA
	// Facility is the id of the one facility, which the nurse is assigned to.
	Facility     string
	Owner, Nurse Person

	org *organization
}

// SignUp takes a new organization to its owner's session with a second factor. It
// has signed nothing yet and is not provisioned.
func SignUp(ctx context.Context, o Options, slug string) (*Live, error) {
	l, _, err := signUp(ctx, o, slug)
	return l, err
}

func signUp(ctx context.Context, o Options, slug string) (*Live, *story, error) {
	s := &story{o: o, tls: client.Options{Roots: o.Roots}, suffix: secretWord()[3:9]}
	s.a = &organization{legalName: "Organization " + slug, slug: slug, setting: "residential", ownerName: "Olivia Hart"}
	if err := s.seedOrganization(ctx); err != nil {
		return nil, nil, fmt.Errorf("signing up %s: %w", slug, err)
	}
	l := &Live{ID: s.a.id, Slug: s.a.slug, Name: s.a.legalName, Owner: shown(s.a.owner, "owner", s.a.ownerName), org: s.a}
	return l, s, nil
}

// BringUp makes a live organization through the public interfaces; operator is
// signed in at the operators' origin.
func BringUp(ctx context.Context, o Options, operator *client.Client, slug string) (*Live, error) {
	l, s, err := signUp(ctx, o, slug)
	if err != nil {
		return nil, err
	}
	s.operator = operator
	if err := s.seedAgreement(ctx); err != nil {
		return nil, fmt.Errorf("the agreement of %s: %w", slug, err)
	}
	if err := s.seedStaff(ctx); err != nil {
		return nil, fmt.Errorf("the staff of %s: %w", slug, err)
	}
	l.BAA, l.Facility, l.Nurse = s.a.baa, s.a.facilities["Garden House"], shown(s.north, "nurse", "Nora Patel")
	return l, nil
}

// Agree has the owner and the operator sign a new agreement, which opens the
// organization's gate.
func (l *Live) Agree(ctx context.Context, operator *client.Client) error {
	baa, err := agree(ctx, l.org, operator)
	if err != nil {
		return fmt.Errorf("a new agreement of %s: %w", l.Slug, err)
	}
	l.BAA = baa
	return nil
}

func shown(p person, role, name string) Person {
	return Person{Client: p.Client, SignIn: SignIn{Role: role, Name: name, Email: p.email, Password: p.password, TOTPSecret: p.secret}}
}
