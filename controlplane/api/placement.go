package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/caresphere/caresphere/controlplane/placement"
	"github.com/caresphere/caresphere/internal/httpx"
	"github.com/caresphere/caresphere/tenants"
)

// RouteFeed hands out the newest signed route table; see placement.Feed.
type RouteFeed interface {
	Next(ctx context.Context, after int64, wait time.Duration) ([]byte, error)
}

// WorkerRegistry keeps the data-plane processes; see placement.Workers.
type WorkerRegistry interface {
	Put(ctx context.Context, w tenants.Worker) error
	Remove(ctx context.Context, id string) error
}

type routesInput struct {
	After int64 `query:"after" minimum:"0" doc:"The version at hand; 0 for none."`
}

type routesOutput struct {
	Status      int
	ContentType string `header:"Content-Type"`
	Body        []byte
}

type workerInput struct {
	ID   string `path:"id" maxLength:"63"`
	Body struct {
		CellID string `json:"cell_id" maxLength:"31"`
		URL    string `json:"url" maxLength:"200"`
	}
}

// RegisterPlacement declares what routers and workers ask of the control plane.
// api is that of the internal operations, which no public document describes.
func RegisterPlacement(api huma.API, feed RouteFeed, workers WorkerRegistry) {
	tags := []string{"Placement"}
	huma.Register(api, huma.Operation{OperationID: "get-routes", Method: http.MethodGet, Path: "/internal/v1/routes", Tags: tags,
		Summary: "The signed route table, as soon as it is newer than the one at hand", Security: httpx.Public(),
		Middlewares: huma.Middlewares{peer("router", "dataplane", "provisioner")}, Responses: answer("text/plain", "The signed table."),
	}, func(ctx context.Context, in *routesInput) (*routesOutput, error) {
		httpx.Unbounded(ctx)
		doc, err := feed.Next(ctx, in.After, placement.LongPoll)
		if err != nil {
			return nil, err
		}
		if doc == nil {
			return &routesOutput{Status: http.StatusNoContent}, nil
		}
		return &routesOutput{Status: http.StatusOK, ContentType: "text/plain; charset=utf-8", Body: doc}, nil
	})
	huma.Register(api, huma.Operation{OperationID: "put-worker", Method: http.MethodPut, Path: "/internal/v1/workers/{id}", Tags: tags,
		Summary: "Register a worker, or say that it is still there", Security: httpx.Public(),
		Middlewares: huma.Middlewares{peer("dataplane")}, DefaultStatus: http.StatusNoContent, MaxBodyBytes: 4 << 10,
	}, func(ctx context.Context, in *workerInput) (*struct{}, error) {
		return nil, workers.Put(ctx, tenants.Worker{ID: in.ID, CellID: in.Body.CellID, URL: in.Body.URL})
	})
	huma.Register(api, huma.Operation{OperationID: "delete-worker", Method: http.MethodDelete, Path: "/internal/v1/workers/{id}", Tags: tags,
		Summary: "Take out a worker that drains", Security: httpx.Public(),
		Middlewares: huma.Middlewares{peer("dataplane")}, DefaultStatus: http.StatusNoContent,
	}, func(ctx context.Context, in *struct {
		ID string `path:"id" maxLength:"63"`
	}) (*struct{}, error) {
		return nil, workers.Remove(ctx, in.ID)
	})
}
