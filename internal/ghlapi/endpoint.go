package ghlapi

import "github.com/causeway-sync/causeway/internal/endpoint"

// The scopes (§1.5).
const (
	contactsRead   = "contacts.readonly"
	contactsWrite  = "contacts.write"
	locationsRead  = "locations.readonly"
	tagsRead       = "locations/tags.readonly"
	tagsWrite      = "locations/tags.write"
	tasksRead      = "locations/tasks.readonly"
	fieldsRead     = "locations/customFields.readonly"
	fieldsWrite    = "locations/customFields.write"
	usersRead      = "users.readonly"
	businessesRead = "businesses.readonly"
	businessWrite  = "businesses.write"
	eventsRead     = "calendars/events.readonly"
	eventsWrite    = "calendars/events.write"
)

// The operations of the API that the Client does, each in this one place.
// There is no PUT of a contact's tags: POST adds, DELETE removes, and PUT of
// the contact replaces them (§0.4).
var (
	getContact    = endpoint.Get("GetContact", "get contact", "/contacts/{contactId}", contactsRead, "§3.1")
	createContact = endpoint.Post("CreateContact", "create contact", "/contacts/", contactsWrite, "§3.1, §4.2")
	updateContact = endpoint.Put("UpdateContact", "update contact", "/contacts/{contactId}", contactsWrite, "§3.1")
	deleteContact = endpoint.Delete("DeleteContact", "delete contact", "/contacts/{contactId}", contactsWrite, "§3.1")
	// An upsert matches by e-mail or phone, so that the same one again finds
	// what it has made, unless the location allows duplicates.
	upsertContact    = endpoint.Post("UpsertContact", "upsert contact", "/contacts/upsert", contactsWrite, "§3.1, §4.2")
	searchContacts   = endpoint.Search("SearchContacts", "search contacts", "/contacts/search", contactsRead, "§3.3")
	findDuplicate    = endpoint.Get("FindDuplicate", "find duplicate", "/contacts/search/duplicate", contactsRead, "§3.2")
	listContacts     = endpoint.List("ListContacts", "list contacts", "/contacts/", contactsRead, "§3.4")
	businessContacts = endpoint.List("BusinessContacts", "list contacts of business", "/contacts/business/{businessId}", contactsRead, "§3.5")

	addTags        = endpoint.Add("AddTags", "add tags", "/contacts/{contactId}/tags", contactsWrite, "§3.10")
	removeTags     = endpoint.Delete("RemoveTags", "remove tags", "/contacts/{contactId}/tags", contactsWrite, "§3.10")
	bulkAddTags    = endpoint.Add("BulkAddTags", "add tags in bulk", "/contacts/bulk/tags/update/add", contactsWrite, "§3.6")
	bulkRemoveTags = endpoint.Add("BulkRemoveTags", "remove tags in bulk", "/contacts/bulk/tags/update/remove", contactsWrite, "§3.6")
	setBusiness    = endpoint.Add("SetBusiness", "set business of contacts", "/contacts/bulk/business", contactsWrite, "§3.6")

	addFollowers       = endpoint.Add("AddFollowers", "add followers", "/contacts/{contactId}/followers", contactsWrite, "§3.14")
	removeFollowers    = endpoint.Delete("RemoveFollowers", "remove followers", "/contacts/{contactId}/followers", contactsWrite, "§3.14")
	addToCampaign      = endpoint.Post("AddToCampaign", "add to campaign", "/contacts/{contactId}/campaigns/{campaignId}", contactsWrite, "§3.14")
	leaveCampaign      = endpoint.Delete("RemoveFromCampaign", "remove from campaign", "/contacts/{contactId}/campaigns/{campaignId}", contactsWrite, "§3.14")
	leaveCampaigns     = endpoint.Delete("RemoveFromAllCampaigns", "remove from all campaigns", "/contacts/{contactId}/campaigns/removeAll", contactsWrite, "§3.14")
	addToWorkflow      = endpoint.Post("AddToWorkflow", "add to workflow", "/contacts/{contactId}/workflow/{workflowId}", contactsWrite, "§3.14")
	removeFromWorkflow = endpoint.Delete("RemoveFromWorkflow", "remove from workflow", "/contacts/{contactId}/workflow/{workflowId}", contactsWrite, "§3.14")

	listTasks    = endpoint.Get("Tasks", "list tasks", "/contacts/{contactId}/tasks", contactsRead, "§3.7")
	getTask      = endpoint.Get("GetTask", "get task", "/contacts/{contactId}/tasks/{taskId}", contactsRead, "§3.7")
	createTask   = endpoint.Post("CreateTask", "create task", "/contacts/{contactId}/tasks", contactsWrite, "§3.7")
	updateTask   = endpoint.Put("UpdateTask", "update task", "/contacts/{contactId}/tasks/{taskId}", contactsWrite, "§3.7")
	completeTask = endpoint.Put("CompleteTask", "complete task", "/contacts/{contactId}/tasks/{taskId}/completed", contactsWrite, "§3.7")
	deleteTask   = endpoint.Delete("DeleteTask", "delete task", "/contacts/{contactId}/tasks/{taskId}", contactsWrite, "§3.7")
	searchTasks  = endpoint.Search("SearchTasks", "search tasks", "/locations/{locationId}/tasks/search", tasksRead, "§3.8")

	listNotes  = endpoint.Get("Notes", "list notes", "/contacts/{contactId}/notes", contactsRead, "§3.9")
	getNote    = endpoint.Get("GetNote", "get note", "/contacts/{contactId}/notes/{id}", contactsRead, "§3.9")
	createNote = endpoint.Post("CreateNote", "create note", "/contacts/{contactId}/notes", contactsWrite, "§3.9")
	updateNote = endpoint.Put("UpdateNote", "update note", "/contacts/{contactId}/notes/{id}", contactsWrite, "§3.9")
	deleteNote = endpoint.Delete("DeleteNote", "delete note", "/contacts/{contactId}/notes/{id}", contactsWrite, "§3.9")

	contactAppointments = endpoint.Get("ContactAppointments", "list appointments", "/contacts/{contactId}/appointments", contactsRead, "§3.11")
	getAppointment      = endpoint.Get("GetAppointment", "get appointment", "/calendars/events/appointments/{eventId}", eventsRead, "§3.11")
	createAppointment   = endpoint.Post("CreateAppointment", "create appointment", "/calendars/events/appointments", eventsWrite, "§3.11")
	updateAppointment   = endpoint.Put("UpdateAppointment", "update appointment", "/calendars/events/appointments/{eventId}", eventsWrite, "§3.11")
	deleteAppointment   = endpoint.Delete("DeleteAppointment", "delete appointment", "/calendars/events/{eventId}", eventsWrite, "§3.11")
	calendarEvents      = endpoint.Get("CalendarEvents", "list calendar events", "/calendars/events", eventsRead, "§3.11")

	getLocation       = endpoint.Get("GetLocation", "get location", "/locations/{locationId}", locationsRead, "§3.12")
	locationTags      = endpoint.Get("LocationTags", "list location tags", "/locations/{locationId}/tags", tagsRead, "§3.12")
	getLocationTag    = endpoint.Get("GetLocationTag", "get location tag", "/locations/{locationId}/tags/{tagId}", tagsRead, "§3.12")
	createLocationTag = endpoint.Post("CreateLocationTag", "create location tag", "/locations/{locationId}/tags", tagsWrite, "§3.12")
	renameLocationTag = endpoint.Put("RenameLocationTag", "rename location tag", "/locations/{locationId}/tags/{tagId}", tagsWrite, "§3.12")
	deleteLocationTag = endpoint.Delete("DeleteLocationTag", "delete location tag", "/locations/{locationId}/tags/{tagId}", tagsWrite, "§3.12")
	customFields      = endpoint.Get("CustomFields", "list custom fields", "/locations/{locationId}/customFields", fieldsRead, "§3.12")
	getCustomField    = endpoint.Get("GetCustomField", "get custom field", "/locations/{locationId}/customFields/{id}", fieldsRead, "§3.12")
	createCustomField = endpoint.Post("CreateCustomField", "create custom field", "/locations/{locationId}/customFields", fieldsWrite, "§3.12")
	renameCustomField = endpoint.Put("RenameCustomField", "rename custom field", "/locations/{locationId}/customFields/{id}", fieldsWrite, "§3.12")
	deleteCustomField = endpoint.Delete("DeleteCustomField", "delete custom field", "/locations/{locationId}/customFields/{id}", fieldsWrite, "§3.12")

	listUsers    = endpoint.Get("Users", "list users", "/users/", usersRead, "§3.13")
	getUser      = endpoint.Get("GetUser", "get user", "/users/{userId}", usersRead, "§3.13")
	searchUsers  = endpoint.List("SearchUsers", "search users", "/users/search", usersRead, "§3.13")
	usersByEmail = endpoint.Search("UsersByEmail", "find users by e-mail", "/users/search/filter-by-email", usersRead, "§3.13")

	listBusinesses = endpoint.List("Businesses", "list businesses", "/businesses/", businessesRead, "§3.13")
	getBusiness    = endpoint.Get("GetBusiness", "get business", "/businesses/{businessId}", businessesRead, "§3.13")
	createBusiness = endpoint.Post("CreateBusiness", "create business", "/businesses/", businessWrite, "§3.13")
	updateBusiness = endpoint.Put("UpdateBusiness", "update business", "/businesses/{businessId}", businessWrite, "§3.13")
	deleteBusiness = endpoint.Delete("DeleteBusiness", "delete business", "/businesses/{businessId}", businessWrite, "§3.13")

	// A code and a refresh token are good for one use.
	exchangeCode       = endpoint.Post("Exchange", "exchange code", "/oauth/token", "", "§1.3")
	refreshToken       = endpoint.Post("Refresh", "refresh token", "/oauth/token", "", "§1.3")
	makeLocationToken  = endpoint.Post("LocationToken", "make location token", "/oauth/locationToken", "oauth.write", "§1.4")
	installedLocations = endpoint.List("InstalledLocations", "list installed locations", "/oauth/installedLocations", "oauth.readonly", "§1.4")
)

// AppEndpoints returns all operations that an App does.
func AppEndpoints() []endpoint.Endpoint {
	return []endpoint.Endpoint{exchangeCode, refreshToken, makeLocationToken, installedLocations}
}

// Endpoints returns all operations that the Client does.
func Endpoints() []endpoint.Endpoint {
	return []endpoint.Endpoint{
		getContact, createContact, updateContact, deleteContact, upsertContact, searchContacts, findDuplicate, listContacts, businessContacts,
		addTags, removeTags, bulkAddTags, bulkRemoveTags, setBusiness,
		addFollowers, removeFollowers, addToCampaign, leaveCampaign, leaveCampaigns, addToWorkflow, removeFromWorkflow,
		listTasks, getTask, createTask, updateTask, completeTask, deleteTask, searchTasks,
		listNotes, getNote, createNote, updateNote, deleteNote,
		contactAppointments, getAppointment, createAppointment, updateAppointment, deleteAppointment, calendarEvents,
		getLocation, locationTags, getLocationTag, createLocationTag, renameLocationTag, deleteLocationTag,
		customFields, getCustomField, createCustomField, renameCustomField, deleteCustomField,
		listUsers, getUser, searchUsers, usersByEmail,
		listBusinesses, getBusiness, createBusiness, updateBusiness, deleteBusiness,
	}
}
