-- The publisher's first start runs this in the database shop.
\set datapulse_password `cat /run/secrets/datapulse`
\set replicator_password `cat /run/secrets/replicator`
\set shop_password `cat /run/secrets/shop`

create role datapulse login password :'datapulse_password' connection limit 10;
grant pg_monitor to datapulse;
create role replicator login replication password :'replicator_password';
create role shop login password :'shop_password';

create table orders (
    id bigint generated always as identity primary key,
    customer text not null,
    cents integer not null,
    placed_at timestamptz not null default clock_timestamp()
);
create table device_connections (
    id bigint generated always as identity primary key,
    device integer not null,
    country text not null,
    connected_at timestamptz not null default clock_timestamp()
);
grant insert on orders, device_connections to shop;
grant select on orders, device_connections to replicator;
create publication orders_pub for table orders, device_connections;
