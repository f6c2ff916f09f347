package tasks

import (
	"net/http"

	"github.com/amberhost/amber/functions/wire"
)

type object = map[string]any

// openapi describes how a task is run, for tools that read OpenAPI 3.0: one
// operation, and the tasks there are as the values of taskName.
func (h *handler) openapi(w http.ResponseWriter, r *http.Request, _ string) error {
	rows, err := h.listed(r)
	if err != nil {
		return err
	}
	name := object{"type": "string"}
	names, descriptions := []string{}, object{}
	for _, row := range rows {
		names = append(names, row.Name)
		descriptions[row.Name] = row.Description
	}
	if len(names) > 0 { // an empty enum is not valid
		name["enum"] = names
	}
	content := func(schema object) object { return object{"application/json": object{"schema": schema}} }
	wire.Tagged(w, r, object{
		"openapi": "3.0.0",
		"info":    object{"title": "Tasks", "version": "1.0.0"},
		"paths": object{"/tasks/execute": object{"post": object{
			"operationId": "execute",
			"summary":     "Run a task",
			"description": "With the header Prefer: wait=10 the answer is the run when it has ended.",
			"requestBody": object{"required": true, "content": content(object{
				"type": "object", "required": []string{"taskName"},
				"properties": object{"taskName": name, "input": object{"description": "any JSON"}},
			})},
			"responses": object{
				"200": object{"description": "The run has ended.", "content": content(object{"type": "object"})},
				"202": object{"description": "The run has started.", "content": content(object{
					"type": "object", "properties": object{"taskRunId": object{"type": "string", "format": "uuid"}},
				})},
				"404": object{"description": "There is no such task."},
			},
		}}},
		"x-tasks": descriptions,
	})
	return nil
}
