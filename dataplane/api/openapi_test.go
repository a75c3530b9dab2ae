package api_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/dataplane/api"
	"github.com/caresphere/caresphere/internal/openapi"
)

func TestTheKeptDescriptionIsCurrent(t *testing.T) {
	// A running worker gives its own build as the version.
	a := api.New(api.Config{Version: "1"})
	require.NoError(t, openapi.Keep(a.App, "../../docs/openapi/dataplane.json", os.Getenv(openapi.WriteVariable) != ""))
}
