package api

import (
	"context"
	"net/http"

	"github.com/caresphere/caresphere/dataplane/records"
	"github.com/caresphere/caresphere/dataplane/records/facilities"
	"github.com/caresphere/caresphere/dataplane/session"
	"github.com/caresphere/caresphere/tenants"
)

func (a *API) facilityRoutes(s facilities.Service) {
	type list struct {
		TenantPath
		PageQuery
	}
	add(a, operation{method: http.MethodGet, path: "/facilities", id: "listFacilities", tag: "Facilities",
		summary: "List facilities", about: "The facilities that the member reaches, oldest first."},
		func(ctx context.Context, v session.Visit, in *list) (records.Page[facilities.Facility], error) {
			c, err := in.cursor()
			if err != nil {
				return records.Page[facilities.Facility]{}, err
			}
			return s.List(ctx, v.Actor, c)
		})
	type create struct {
		TenantPath
		OnceHeader
		Body facilities.NewFacility
	}
	add(a, operation{method: http.MethodPost, path: "/facilities", id: "createFacility", tag: "Facilities", status: http.StatusCreated, write: true,
		summary: "Make a facility", about: "Names are unique in the organization."},
		func(ctx context.Context, v session.Visit, in *create) (facilities.Facility, error) {
			once, err := in.once("createFacility", tenants.NilID, in.Body)
			if err != nil {
				return facilities.Facility{}, err
			}
			return s.Create(ctx, v.Actor, once, in.Body)
		})
	add(a, operation{method: http.MethodGet, path: "/facilities/{id}", id: "getFacility", tag: "Facilities",
		summary: "Show a facility", about: "One facility that the member reaches."},
		func(ctx context.Context, v session.Visit, in *RecordPath) (facilities.Facility, error) {
			return s.Get(ctx, v.Actor, in.ID)
		})
	type update struct {
		RecordPath
		Body facilities.FacilityChange
	}
	add(a, operation{method: http.MethodPatch, path: "/facilities/{id}", id: "updateFacility", tag: "Facilities", write: true,
		summary: "Change a facility", about: "Conflicts when the version is not the current one."},
		func(ctx context.Context, v session.Visit, in *update) (facilities.Facility, error) {
			return s.Update(ctx, v.Actor, in.ID, in.Body)
		})
}
