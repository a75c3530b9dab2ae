package main

import (
	"github.com/gofiber/fiber/v2"

	"github.com/caresphere/caresphere/controlplane/api"
)

// customerOperations declares what owners do about their organization.
func (p *plane) customerOperations(r api.Realm) {}

// operatorOperations declares what operators do about organizations.
func (p *plane) operatorOperations(r api.Realm) {}

// internalOperations serves routers and workers.
func (p *plane) internalOperations(app *fiber.App) {}
