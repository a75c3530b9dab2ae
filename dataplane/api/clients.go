package api

import (
	"context"
	"net/http"

	"github.com/caresphere/caresphere/dataplane/records"
	"github.com/caresphere/caresphere/dataplane/records/clients"
	"github.com/caresphere/caresphere/dataplane/session"
	"github.com/caresphere/caresphere/tenants"
)

func (a *API) clientRoutes(s clients.Service) {
	type list struct {
		TenantPath
		PageQuery
	}
	add(a, operation{method: http.MethodGet, path: "/clients", id: "listClients", tag: "Clients",
		summary: "List clients", about: "The clients of the facilities that the member reaches, oldest record first."},
		func(ctx context.Context, v session.Visit, in *list) (records.Page[clients.Client], error) {
			c, err := in.cursor()
			if err != nil {
				return records.Page[clients.Client]{}, err
			}
			return s.List(ctx, v.Actor, c)
		})
	type create struct {
		TenantPath
		OnceHeader
		Body clients.NewClient
	}
	add(a, operation{method: http.MethodPost, path: "/clients", id: "createClient", tag: "Clients", status: http.StatusCreated, write: true,
		summary: "Admit a client", about: "Places the client at a facility that the member reaches."},
		func(ctx context.Context, v session.Visit, in *create) (clients.Client, error) {
			once, err := in.once("createClient", tenants.NilID, in.Body)
			if err != nil {
				return clients.Client{}, err
			}
			return s.Create(ctx, v.Actor, once, in.Body)
		})
	type search struct {
		TenantPath
		Body clients.ClientQuery
	}
	add(a, operation{method: http.MethodPost, path: "/clients/search", id: "searchClients", tag: "Clients", status: http.StatusOK,
		summary: "Find clients", about: "By exact family name, record number or date of birth, or several of them together. In the body, for a URL is no place for them."},
		func(ctx context.Context, v session.Visit, in *search) (records.Page[clients.Client], error) {
			return s.Search(ctx, v.Actor, in.Body)
		})
	add(a, operation{method: http.MethodGet, path: "/clients/{id}", id: "getClient", tag: "Clients",
		summary: "Show a client", about: "One client of a facility that the member reaches."},
		func(ctx context.Context, v session.Visit, in *RecordPath) (clients.Client, error) {
			return s.Get(ctx, v.Actor, in.ID)
		})
	type update struct {
		RecordPath
		Body clients.ClientChange
	}
	add(a, operation{method: http.MethodPatch, path: "/clients/{id}", id: "updateClient", tag: "Clients", write: true,
		summary: "Change a client", about: "An absent field stays, an empty optional one is cleared. Conflicts when the version is not the current one."},
		func(ctx context.Context, v session.Visit, in *update) (clients.Client, error) {
			return s.Update(ctx, v.Actor, in.ID, in.Body)
		})
	type transfer struct {
		RecordPath
		OnceHeader
		Body clients.Transfer
	}
	add(a, operation{method: http.MethodPost, path: "/clients/{id}/transfer", id: "transferClient", tag: "Clients", status: http.StatusOK, write: true,
		summary: "Transfer a client", about: "Moves the client to another facility. Contacts, allergies and care team follow, notes stay where they were written."},
		func(ctx context.Context, v session.Visit, in *transfer) (clients.Client, error) {
			once, err := in.once("transferClient", in.ID, in.Body)
			if err != nil {
				return clients.Client{}, err
			}
			return s.Transfer(ctx, v.Actor, once, in.ID, in.Body)
		})
	add(a, operation{method: http.MethodGet, path: "/clients/{id}/placements", id: "listPlacements", tag: "Clients",
		summary: "List a client's placements", about: "Where the client was placed, oldest first, as far as the member reaches it."},
		func(ctx context.Context, v session.Visit, in *RecordPath) (records.Page[clients.Placement], error) {
			return s.Placements(ctx, v.Actor, in.ID)
		})
	a.clientPartRoutes(s)
}

// clientPartRoutes are for what hangs on a client.
func (a *API) clientPartRoutes(s clients.Service) {
	type list struct {
		RecordPath
		PageQuery
	}
	add(a, operation{method: http.MethodGet, path: "/clients/{id}/contacts", id: "listContacts", tag: "Clients",
		summary: "List a client's contacts", about: "Whom to reach about the client, oldest first."},
		func(ctx context.Context, v session.Visit, in *list) (records.Page[clients.Contact], error) {
			c, err := in.cursor()
			if err != nil {
				return records.Page[clients.Contact]{}, err
			}
			return s.Contacts(ctx, v.Actor, in.ID, c)
		})
	type contact struct {
		RecordPath
		OnceHeader
		Body clients.NewContact
	}
	add(a, operation{method: http.MethodPost, path: "/clients/{id}/contacts", id: "createContact", tag: "Clients", status: http.StatusCreated, write: true,
		summary: "Note a contact", about: "Somebody to reach about the client."},
		func(ctx context.Context, v session.Visit, in *contact) (clients.Contact, error) {
			once, err := in.once("createContact", in.ID, in.Body)
			if err != nil {
				return clients.Contact{}, err
			}
			return s.AddContact(ctx, v.Actor, once, in.ID, in.Body)
		})
	add(a, operation{method: http.MethodGet, path: "/clients/{id}/allergies", id: "listAllergies", tag: "Clients",
		summary: "List a client's allergies", about: "What the client must not be given, oldest first."},
		func(ctx context.Context, v session.Visit, in *list) (records.Page[clients.Allergy], error) {
			c, err := in.cursor()
			if err != nil {
				return records.Page[clients.Allergy]{}, err
			}
			return s.Allergies(ctx, v.Actor, in.ID, c)
		})
	type allergy struct {
		RecordPath
		OnceHeader
		Body clients.NewAllergy
	}
	add(a, operation{method: http.MethodPost, path: "/clients/{id}/allergies", id: "createAllergy", tag: "Clients", status: http.StatusCreated, write: true,
		summary: "Note an allergy", about: "Something that the client must not be given."},
		func(ctx context.Context, v session.Visit, in *allergy) (clients.Allergy, error) {
			once, err := in.once("createAllergy", in.ID, in.Body)
			if err != nil {
				return clients.Allergy{}, err
			}
			return s.AddAllergy(ctx, v.Actor, once, in.ID, in.Body)
		})
	add(a, operation{method: http.MethodGet, path: "/clients/{id}/care-team", id: "getCareTeam", tag: "Clients",
		summary: "Show a client's care team", about: "Who looks after the client now."},
		func(ctx context.Context, v session.Visit, in *RecordPath) (clients.CareTeam, error) {
			return s.CareTeam(ctx, v.Actor, in.ID)
		})
	type team struct {
		RecordPath
		Body clients.NewCareTeam
	}
	add(a, operation{method: http.MethodPut, path: "/clients/{id}/care-team", id: "setCareTeam", tag: "Clients", write: true,
		summary: "Set a client's care team", about: "Replaces the team; who leaves it is kept with the time."},
		func(ctx context.Context, v session.Visit, in *team) (clients.CareTeam, error) {
			return s.SetCareTeam(ctx, v.Actor, in.ID, in.Body)
		})
}
