package tasks

import (
	"net/http"

	"github.com/amberhost/amber/functions/wire"
)

type object = map[string]any

func content(schema object) object { return object{"application/json": object{"schema": schema}} }

// openapi describes how a task is run and called off, for tools that read OpenAPI
// 3.0, with the tasks there are as the values of taskName.
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
	milliseconds := object{"type": "number", "minimum": 0, "description": "milliseconds"}
	wire.Tagged(w, r, object{
		"openapi": "3.0.0",
		"info":    object{"title": "Tasks", "version": "1.0.0"},
		"paths": object{"/tasks/execute": object{"post": object{
			"operationId": "execute",
			"summary":     "Run a task",
			"description": "With the header Prefer: wait=10 the answer is the run when it has ended.",
			"parameters": []object{{"name": "Idempotency-Key", "in": "header", "schema": object{"type": "string", "minLength": 1, "maxLength": 255},
				"description": "The same request once more under the same key gives the run that is there."}},
			"requestBody": object{"required": true, "content": content(object{
				"type": "object", "required": []string{"taskName"},
				"properties": object{"taskName": name, "input": object{"description": "any JSON"},
					"delay": milliseconds, "timeout": milliseconds, "priority": object{"type": "integer"},
					"scheduledFor": object{"type": "string", "format": "date-time"}},
			})},
			"responses": object{
				"200": object{"description": "The run has ended.", "content": content(object{"type": "object"})},
				"202": object{"description": "The run has started.", "content": content(object{
					"type": "object", "properties": object{"taskRunId": object{"type": "string", "format": "uuid"}},
				})},
				"404": object{"description": "There is no such task."},
				"409": object{"description": "Something else was asked for under this Idempotency-Key."},
				"429": object{"description": "Too many runs wait: come back after Retry-After."},
			},
		}}, "/tasks/cancel": object{"post": object{
			"operationId": "cancel",
			"summary":     "Ask a run to end; once more ends it at once",
			"requestBody": object{"required": true, "content": content(object{
				"type": "object", "required": []string{"id"},
				"properties": object{"id": object{"type": "string", "format": "uuid"}},
			})},
			"responses": object{
				"200": object{"description": "The run has ended.", "content": content(object{"type": "object"})},
				"202": object{"description": "The run is ending.", "content": content(object{"type": "object"})},
				"404": object{"description": "There is no such run."},
			},
		}}},
		"x-tasks": descriptions,
	})
	return nil
}
