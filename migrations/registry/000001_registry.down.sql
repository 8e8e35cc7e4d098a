DROP TABLE signup_tombstones;
DROP TABLE phone_numbers;
DROP TABLE admin_email_index;
DROP TABLE admins;
DROP TABLE tenants;
DROP TABLE churches;
