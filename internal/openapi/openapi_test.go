package openapi_test

import (
	"context"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/httpx"
	"github.com/caresphere/caresphere/internal/openapi"
)

func described(operations ...string) *fiber.App {
	app := httpx.New(httpx.Config{})
	api := httpx.NewAPI(app, app, httpx.APIConfig{Title: "Test", Version: "1", Description: "A test.",
		Tags: []httpx.Tag{{Name: "Things", Description: "Things."}}})
	for _, id := range operations {
		huma.Register(api, huma.Operation{OperationID: id, Method: http.MethodGet, Path: "/v1/" + id, Summary: id, Tags: []string{"Things"}},
			func(context.Context, *struct{}) (*struct{}, error) { return nil, nil })
	}
	return app
}

func TestAStaleDescriptionIsFound(t *testing.T) {
	file := filepath.Join(t.TempDir(), "openapi", "test.json")
	require.ErrorContains(t, openapi.Keep(described("one"), file, false), "make openapi writes it")
	require.NoError(t, openapi.Keep(described("one"), file, true))
	require.NoError(t, openapi.Keep(described("one"), file, false))

	require.ErrorContains(t, openapi.Keep(described("one", "two"), file, false), "is not current from line")
	require.NoError(t, openapi.Keep(described("one", "two"), file, true))
	require.ErrorContains(t, openapi.Keep(described("one"), file, false), "is not current from line")

	require.ErrorContains(t, openapi.Keep(httpx.New(httpx.Config{}), file, false), "answers 404")
}
