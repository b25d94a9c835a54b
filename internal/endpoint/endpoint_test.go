package endpoint_test

import (
	"testing"

	"github.com/causeway-sync/causeway/internal/endpoint"
)

func TestFill(t *testing.T) {
	tests := []struct {
		path string
		ids  []string
		want string
	}{
		{"/contacts/", nil, "/contacts/"},
		{"/contacts/{contactId}", []string{"a/b"}, "/contacts/a%2Fb"},
		{"/contacts/{contactId}/tasks/{taskId}", []string{"{x}", "t"}, "/contacts/%7Bx%7D/tasks/t"},
		{"/contacts/{contactId}", []string{"c", "more"}, "/contacts/c"},
		{"/contacts/{contactId}/tasks/{taskId}", []string{"c"}, "/contacts/c/tasks/{taskId}"},
	}
	for _, tt := range tests {
		if got := endpoint.Fill(tt.path, tt.ids...); got != tt.want {
			t.Errorf("%s with %q: got %s, want %s", tt.path, tt.ids, got, tt.want)
		}
	}
}

func TestFits(t *testing.T) {
	e := endpoint.Put("CompleteTask", "complete task", "/contacts/{contactId}/tasks/{taskId}/completed", "", "")
	tests := []struct {
		method, path string
		want         bool
	}{
		{"PUT", "/contacts/c/tasks/t/completed", true},
		{"PUT", "/contacts/c/tasks/t/completed/", true},
		{"POST", "/contacts/c/tasks/t/completed", false},
		{"PUT", "/contacts/c/tasks/t", false},
		{"PUT", "/contacts/c/notes/t/completed", false},
	}
	for _, tt := range tests {
		if got := e.Fits(tt.method, tt.path); got != tt.want {
			t.Errorf("%s %s: got %t", tt.method, tt.path, got)
		}
	}
}

func TestWrite(t *testing.T) {
	tests := []struct {
		e    endpoint.Endpoint
		want bool
	}{
		{endpoint.Get("", "", "", "", ""), false}, {endpoint.Search("", "", "", "", ""), false}, {endpoint.Post("", "", "", "", ""), true},
		{endpoint.Put("", "", "", "", ""), true}, {endpoint.Delete("", "", "", "", ""), true}, {endpoint.Add("", "", "", "", ""), true},
	}
	for _, tt := range tests {
		if got := tt.e.Write(); got != tt.want {
			t.Errorf("%s (%s): got %t", tt.e.Method, tt.e.Effect, got)
		}
	}
}
