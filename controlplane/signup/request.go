package signup

import (
	"errors"

	"github.com/caresphere/caresphere/controlplane/input"
	"github.com/caresphere/caresphere/tenants"
)

// The fields of a sign-up, as errors name them.
const (
	FieldLegalName   = "body.organization.legal_name"
	FieldSlug        = "body.organization.slug"
	FieldCareSetting = "body.organization.care_setting"
	FieldOwnerName   = "body.owner.name"
	FieldOwnerEmail  = "body.owner.email"
)

// Request is a sign-up. CareSetting is checked by Parse.
type Request struct {
	LegalName   string
	Slug        string
	CareSetting tenants.CareSetting
	OwnerName   string
	Email       string
}

// Parse returns the request in the spelling that is kept, or KindInvalid with
// every field that is wrong.
func (r Request) Parse() (Request, error) {
	var wrong []tenants.FieldError
	note := func(field string, err error) {
		var e *tenants.Error
		if errors.As(err, &e) {
			for _, f := range e.Fields {
				wrong = append(wrong, tenants.FieldError{Field: field, Message: f.Message})
			}
		}
	}
	var err error
	out := Request{}
	out.LegalName, err = input.ParseName(FieldLegalName, r.LegalName, 200)
	note(FieldLegalName, err)
	if r.Slug != "" {
		out.Slug, err = tenants.ParseSlug(r.Slug)
		note(FieldSlug, err)
	}
	out.CareSetting, err = tenants.ParseCareSetting(string(r.CareSetting))
	note(FieldCareSetting, err)
	out.OwnerName, err = input.ParseName(FieldOwnerName, r.OwnerName, 100)
	note(FieldOwnerName, err)
	out.Email, err = input.ParseEmail(FieldOwnerEmail, r.Email)
	note(FieldOwnerEmail, err)
	if wrong != nil {
		e := tenants.NewError(tenants.KindInvalid, "the request is not valid")
		e.Fields = wrong
		return Request{}, e
	}
	return out, nil
}

// withSuffix makes another slug of the same beginning.
func withSuffix(slug string) string {
	tail := "-" + tenants.NewID().Hex()[26:]
	if len(slug) > 32 {
		slug = slug[:32]
	}
	for len(slug) > 0 && slug[len(slug)-1] == '-' {
		slug = slug[:len(slug)-1]
	}
	return slug + tail
}
