package router_test

import (
	"context"
	"fmt"
	"net"
	"os"

	"github.com/gofiber/fiber/v2"

	"github.com/caresphere/caresphere/internal/httpx"
)

// workerProcess is a worker in a process of its own, so that a test can kill it.
func workerProcess(addr string) {
	app := httpx.New(httpx.Config{TrustedPeers: []string{"router"}})
	app.Get("/internal/readyz", func(c *fiber.Ctx) error { return c.JSON(httpx.Readiness{Ready: true}) })
	app.All("/*", func(c *fiber.Ctx) error { return c.SendString("worker " + addr) })
	conf, err := httpx.MutualTLS(os.Getenv("ROUTER_TEST_CA"), os.Getenv("ROUTER_TEST_CERT"), os.Getenv("ROUTER_TEST_KEY"), "router")
	if err == nil {
		var ln net.Listener
		if ln, err = net.Listen("tcp", addr); err == nil {
			err = httpx.Serve(context.Background(), app, ln, conf)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
