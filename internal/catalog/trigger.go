package catalog

import "github.com/causeway-sync/causeway/internal/endpoint"

func hook(system, id, event, title, canonical, scope, source string, mapped bool) Entry {
	return Entry{ID: system + "." + id, System: system, Kind: Trigger, How: Webhook, Title: title, Event: event, Scope: scope,
		Effect: endpoint.Read, Canonical: canonical, Mapped: mapped, Source: source}
}

// webhooks are the event types that the two systems are known to send. What is
// not mapped is stored as unroutable, answered 2xx, and nothing more.
var webhooks = []Entry{
	hook(GHL, "on.contact.created", "ContactCreate", "A contact was made", "contact", "contacts.readonly", "§5.2", true),
	hook(GHL, "on.contact.updated", "ContactUpdate", "A contact was changed", "contact", "contacts.readonly", "§5.2", true),
	hook(GHL, "on.contact.deleted", "ContactDelete", "A contact was deleted", "contact", "contacts.readonly", "§5.2", true),
	hook(GHL, "on.contact.tags", "ContactTagUpdate", "A contact's tags were changed", "tag", "contacts.readonly", "§5.2", true),
	hook(GHL, "on.contact.dnd", "ContactDndUpdate", "A contact opted out or in", "contact", "contacts.readonly", "§5.2", true),
	hook(GHL, "on.note.created", "NoteCreate", "A note was made", "note", "contacts.readonly", "§5.2", true),
	hook(GHL, "on.note.updated", "NoteUpdate", "A note was changed", "note", "contacts.readonly", "§5.2", true),
	hook(GHL, "on.note.deleted", "NoteDelete", "A note was deleted", "note", "contacts.readonly", "§5.2", true),
	hook(GHL, "on.task.created", "TaskCreate", "A task was made", "task", "contacts.readonly", "§5.2", true),
	hook(GHL, "on.task.completed", "TaskComplete", "A task was completed", "task", "contacts.readonly", "§5.2", true),
	hook(GHL, "on.task.deleted", "TaskDelete", "A task was deleted", "task", "contacts.readonly", "§5.2", true),
	hook(GHL, "on.appointment.created", "AppointmentCreate", "An appointment was made", "appointment", "calendars/events.readonly", "§5.2", true),
	hook(GHL, "on.appointment.updated", "AppointmentUpdate", "An appointment was changed", "appointment", "calendars/events.readonly", "§5.2", true),
	hook(GHL, "on.appointment.deleted", "AppointmentDelete", "An appointment was deleted", "appointment", "calendars/events.readonly", "§5.2", true),
	hook(GHL, "on.app.installed", "INSTALL", "The app was installed in a location", "", "", "§5.2", false),
	hook(GHL, "on.app.uninstalled", "UNINSTALL", "The app was taken out of a location", "", "", "§5.2", false),
	hook(GHL, "on.location.created", "LocationCreate", "A location was made", "", "locations.readonly", "§5.2", false),
	hook(GHL, "on.location.updated", "LocationUpdate", "A location was changed", "", "locations.readonly", "§5.2", false),
	hook(GHL, "on.user.created", "UserCreate", "A user was made", "", "users.readonly", "§5.2", false),
	hook(GHL, "on.user.updated", "UserUpdate", "A user was changed", "", "users.readonly", "§5.2", false),
	hook(GHL, "on.user.deleted", "UserDelete", "A user was deleted", "", "users.readonly", "§5.2", false),

	hook(Novi, "on.member.created", "customer.created", "A member was made", "contact", "member data", "§6", true),
	hook(Novi, "on.member.updated", "customer.updated", "A member was changed", "contact", "member data", "§6", true),
	hook(Novi, "on.member.removed", "customer.removed", "A member was deactivated, merged away, or left what the key may see", "contact", "member data", "§6", true),
}

// reads are what changes are found by where no webhook tells them, or where
// one was lost.
var reads = []row{
	{"ghl.poll.contacts", "SearchContacts", "Contacts made or changed since the watermark, tags included", "contact", true, Poll},
	{"ghl.sweep.tasks", "SearchTasks", "Tasks edited or reopened, which no webhook tells", "task", true, Sweep},
	{"ghl.sweep.notes", "Notes", "Notes of one contact after another", "note", true, Sweep},
	{"ghl.sweep.appointments", "ContactAppointments", "Appointments of one contact after another", "appointment", true, Sweep},
	{"novi.poll.members", "ListMembers", "Members made or changed since the watermark", "contact", true, Poll},
	{"novi.sweep.groups", "GroupMembers", "Who is in each group: a group by a condition is joined and left without an edit of the member", "tag", true, Sweep},
	{"novi.sweep.activities", "ListActivities", "Tasks, notes and meetings, for which there are no webhooks and no dates of change", "task", true, Sweep},
}
