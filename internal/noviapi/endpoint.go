package noviapi

import "github.com/causeway-sync/causeway/internal/endpoint"

// What a key has to allow (§2): events need "Enable Event Access".
const (
	memberData  = "member data"
	eventAccess = "event access"
)

// The operations of the API that the Client does, each in this one place.
// Nobody has seen Novi's own reference (§0), so each path is configuration
// under its key, and here is what it is by default; an empty one is absent.
var (
	listMembers = list("ListMembers", "list members", "members", "/api/members", memberData, "§3.1, §3.2")
	getMember   = get("GetMember", "get member", "member", "/api/members/{id}", memberData, "§4")
	// A read for a PUT that follows at once, with the call of both taken.
	getMemberToPut = get("GetMemberToPut", "get member", "member", "/api/members/{id}", memberData, "§4")
	createMember   = post("CreateMember", "create member", "members", "/api/members", memberData, "§3.4")
	putMember      = put("PutMember", "put member", "member", "/api/members/{id}", memberData, "§3.4")
	simpleList     = get("SimpleList", "list names of members", "simple_list", "/api/members/simple-list", memberData, "§4")
	memberTypes    = list("MemberTypes", "list member types", "member_types", "/api/member-types", memberData, "§4")

	listActivities   = list("ListActivities", "list activities", "activities", "/api/activities", memberData, "§3.2, §5.2")
	getActivity      = get("GetActivity", "get activity", "activity", "/api/activities/{id}", memberData, "§5.2")
	getActivityToPut = get("GetActivityToPut", "get activity", "activity", "/api/activities/{id}", memberData, "§5.2")
	createActivity   = post("CreateActivity", "create activity", "activities", "/api/activities", memberData, "§3.4, §5.2")
	putActivity      = put("PutActivity", "put activity", "activity", "/api/activities/{id}", memberData, "§3.4, §5.2")
	deleteActivity   = del("DeleteActivity", "delete activity", "activity", "/api/activities/{id}", memberData, "§5.2")

	activityTypes      = list("ActivityTypes", "list activity types", "activity_types", "/api/custom-activity-types", memberData, "§5.3")
	createActivityType = post("CreateActivityType", "create activity type", "activity_types", "/api/custom-activity-types", memberData, "§5.3")
	updateActivityType = put("UpdateActivityType", "update activity type", "activity_type", "/api/custom-activity-types/{id}", memberData, "§3.4, §5.3")

	listMembershipActivities = list("MembershipActivities", "list membership activities", "membership_activities", "/api/membership-activities", memberData, "§4")
	getMembershipActivity    = get("GetMembershipActivity", "get membership activity", "membership_activity", "/api/membership-activities/{id}", memberData, "§4")

	listGroups       = list("Groups", "list groups", "groups", "/api/groups", memberData, "§5.4")
	getGroup         = get("GetGroup", "get group", "group", "/api/groups/{id}", memberData, "§5.4")
	listGroupMembers = list("GroupMembers", "list group members", "group_members", "/api/groups/{id}/members", memberData, "§5.4")
	groupCategories  = list("GroupCategories", "list group categories", "group_categories", "/api/group-categories", memberData, "§4")
	// That a group's members can be written is in no evidence (§12.4).
	addGroupMember    = add("AddGroupMember", "add group member", "group_member", "", memberData, "§12.4")
	removeGroupMember = del("RemoveGroupMember", "remove group member", "group_member", "", memberData, "§12.4")

	listCommittees        = list("Committees", "list committees", "committees", "/api/committees", memberData, "§3.2, §4")
	getCommittee          = get("GetCommittee", "get committee", "committee", "/api/committees/{id}", memberData, "§4")
	listCommitteeMembers  = get("CommitteeMembers", "list committee members", "committee_members", "/api/committees/{id}/members", memberData, "§5.4")
	getCommitteeMember    = get("GetCommitteeMember", "get committee member", "committee_member", "/api/committees/{committee}/members/{id}", memberData, "§5.4")
	createCommitteeMember = post("CreateCommitteeMember", "create committee member", "committee_members", "/api/committees/{id}/members", memberData, "§5.4")
	updateCommitteeMember = put("UpdateCommitteeMember", "update committee member", "committee_member", "/api/committees/{committee}/members/{id}", memberData, "§3.4, §5.4")
	deleteCommitteeMember = del("DeleteCommitteeMember", "delete committee member", "committee_member", "/api/committees/{committee}/members/{id}", memberData, "§5.4")
	committeeRoles        = get("CommitteeRoles", "list committee roles", "committee_roles", "/api/committee-roles", memberData, "§4")

	customFields     = get("CustomFields", "list custom fields", "custom_fields", "/api/custom-fields", memberData, "§5.5")
	listMemberFields = get("MemberFields", "list custom fields of member", "member_fields", "/api/customer-custom-fields/{member}", memberData, "§5.5")
	getMemberField   = get("GetMemberField", "get custom field of member", "member_field", "/api/customer-custom-fields/{member}/{field}", memberData, "§5.5")
	putMemberField   = put("PutMemberField", "put custom field of member", "put_member_field", "/api/customer-custom-fields", memberData, "§5.5")

	listWebhooks  = get("Webhooks", "list webhooks", "webhooks", "/api/webhooks", memberData, "§5.6")
	getWebhook    = get("GetWebhook", "get webhook", "webhook", "/api/webhooks/{id}", memberData, "§5.6")
	createWebhook = post("CreateWebhook", "create webhook", "webhooks", "/api/webhooks", memberData, "§5.6")
	updateWebhook = put("UpdateWebhook", "update webhook", "webhook", "/api/webhooks/{id}", memberData, "§3.4, §5.6")
	deleteWebhook = del("DeleteWebhook", "delete webhook", "webhook", "/api/webhooks/{id}", memberData, "§5.6")

	listEvents        = get("Events", "list events", "events", "/api/events", eventAccess, "§5.7")
	getEvent          = get("GetEvent", "get event", "event", "/api/events/{id}", eventAccess, "§5.7")
	eventCategories   = get("EventCategories", "list event categories", "event_categories", "/api/event-categories", eventAccess, "§4")
	listRegistrations = list("Registrations", "list registrations", "registrations", "/api/registrations", eventAccess, "§5.7")
	getRegistration   = get("GetRegistration", "get registration", "registration", "/api/registrations/{id}", eventAccess, "§5.7")
	listAttendees     = get("Attendees", "list attendees", "attendees", "/api/attendees", eventAccess, "§3.2, §5.7")
)

// Endpoints returns all operations that the Client does.
func Endpoints() []endpoint.Endpoint {
	return []endpoint.Endpoint{
		listMembers, getMember, getMemberToPut, createMember, putMember, simpleList, memberTypes,
		listActivities, getActivity, getActivityToPut, createActivity, putActivity, deleteActivity,
		activityTypes, createActivityType, updateActivityType, listMembershipActivities, getMembershipActivity,
		listGroups, getGroup, listGroupMembers, groupCategories, addGroupMember, removeGroupMember,
		listCommittees, getCommittee, listCommitteeMembers, getCommitteeMember, createCommitteeMember, updateCommitteeMember, deleteCommitteeMember, committeeRoles,
		customFields, listMemberFields, getMemberField, putMemberField,
		listWebhooks, getWebhook, createWebhook, updateWebhook, deleteWebhook,
		listEvents, getEvent, eventCategories, listRegistrations, getRegistration, listAttendees,
	}
}

func keyed(key string, e endpoint.Endpoint) endpoint.Endpoint {
	e.Key = key
	return e
}

func get(f, op, key, path, scope, source string) endpoint.Endpoint {
	return keyed(key, endpoint.Get(f, op, path, scope, source))
}

func list(f, op, key, path, scope, source string) endpoint.Endpoint {
	return keyed(key, endpoint.List(f, op, path, scope, source))
}

func post(f, op, key, path, scope, source string) endpoint.Endpoint {
	return keyed(key, endpoint.Post(f, op, path, scope, source))
}

func add(f, op, key, path, scope, source string) endpoint.Endpoint {
	return keyed(key, endpoint.Add(f, op, path, scope, source))
}

func put(f, op, key, path, scope, source string) endpoint.Endpoint {
	return keyed(key, endpoint.Put(f, op, path, scope, source))
}

func del(f, op, key, path, scope, source string) endpoint.Endpoint {
	return keyed(key, endpoint.Delete(f, op, path, scope, source))
}
